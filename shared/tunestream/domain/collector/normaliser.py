"""From what agents publish in the native form to what the pair builder reads."""

from __future__ import annotations

from tunestream.domain.collector.bounds import check_range
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
    body: TTCCandidate | TTCTurnEnd | TTCExampleEnd | TTCEpisode,
) -> CandidateStep | TurnEnd | ExampleEnd | EpisodeStep:
    """Normalise an event in the native form.

    Raises:
        Refused: when the score is out of range.
    """
    match body:
        case TTCCandidate():
            return _candidate(body)
        case TTCEpisode():
            return _episode(body)
        case TTCTurnEnd():
            return TurnEnd(run_id=body.run_id, example_id=body.example_id, turn_id=body.turn_id)
        case TTCExampleEnd():
            return ExampleEnd(run_id=body.run_id, example_id=body.example_id)


def _candidate(body: TTCCandidate) -> CandidateStep:
    check_range("score", body.score)
    return CandidateStep.of_valid(
        run_id=body.run_id,
        example_id=body.example_id,
        turn_id=body.turn_id,
        candidate_id=candidate_id(body.run_id, body.example_id, body.turn_id, body.candidate_id),
        candidate_index=body.candidate_index,
        prompt=body.prompt,
        response=body.response,
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
