"""From what agents publish in the native form to what the pair builder reads."""

from __future__ import annotations

from collections import Counter

from tunestream.domain.collector.bounds import check_range
from tunestream.domain.collector.prompts import read_prompt, read_response
from tunestream.events.ids import candidate_id, episode_id
from tunestream.events.ttc import (
    CandidateStep,
    EpisodeStep,
    ExampleEnd,
    TTCCandidate,
    TTCEpisode,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)

__all__ = ["normalise_native"]


def normalise_native(
    body: TTCCandidate | TTCTurnEnd | TTCExampleEnd | TTCEpisode, dropped: Counter[str] | None = None
) -> CandidateStep | TurnEnd | ExampleEnd | EpisodeStep:
    """Normalise an event in the native form.

    Args:
        body: what was published.
        dropped: counts the keys of messages that are left out.

    Raises:
        Refused: when the score is out of range, or prompt or response have messages that cannot be trained
            on.
    """
    match body:
        case TTCCandidate():
            return _candidate(body, Counter() if dropped is None else dropped)
        case TTCEpisode():
            return _episode(body)
        case TTCTurnEnd():
            return TurnEnd(run_id=body.run_id, example_id=body.example_id, turn_id=body.turn_id)
        case TTCExampleEnd():
            return ExampleEnd(run_id=body.run_id, example_id=body.example_id)


def _candidate(body: TTCCandidate, dropped: Counter[str]) -> CandidateStep:
    check_range("score", body.score)
    prompt, response = body.prompt, body.response
    return CandidateStep.of_valid(
        run_id=body.run_id,
        example_id=body.example_id,
        turn_id=body.turn_id,
        candidate_id=candidate_id(body.run_id, body.example_id, body.turn_id, body.candidate_id),
        candidate_index=body.candidate_index,
        prompt=prompt if isinstance(prompt, str) else read_prompt(prompt, "prompt", dropped),
        response=response if isinstance(response, str) else read_response(response, "response", dropped),
        score=body.score,
        expected_candidates=body.expected_candidates,
        policy_version=body.policy_version,
        raw_metadata=body.metadata or {},
    )


def _episode(body: TTCEpisode) -> EpisodeStep:
    check_range("reward", body.reward)
    return EpisodeStep(
        run_id=body.run_id,
        example_id=body.example_id,
        episode_id=episode_id(body.run_id, body.example_id, body.episode_id),
        items=body.items,
        reward=body.reward,
        policy_version=body.policy_version,
        raw_metadata=body.metadata or {},
    )
