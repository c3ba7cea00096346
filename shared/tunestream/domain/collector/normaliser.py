"""From what agents publish in the native form to what the pair builder reads."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tunestream.domain.collector.bounds import check_range
from tunestream.domain.collector.prompts import read_prompt, read_response, without_answer
from tunestream.domain.collector.rules import CandidateRules
from tunestream.domain.effects import Refused
from tunestream.events.ids import candidate_id, episode_id
from tunestream.events.messages import Prompt
from tunestream.events.scores import ScoreStep, TTCScore
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
from tunestream.events.turns import TurnMember, TurnStep

__all__ = ["Published", "normalise_native", "normalise_score", "single"]

Published = TTCCandidate | TTCTurnEnd | TTCExampleEnd | TTCEpisode

_PUBLISHED: Final = CandidateRules()


def normalise_native(
    body: Published, dropped: Counter[str] | None = None, rules: CandidateRules = _PUBLISHED
) -> CandidateStep | TurnStep | TurnEnd | ExampleEnd | EpisodeStep:
    """Normalise an event in the native form that is no turn record and no score.

    Args:
        body: what was published.
        dropped: counts the keys of messages that are left out.
        rules: of its run.

    Raises:
        Refused: when the score is out of range, or prompt or response have messages that cannot be trained
            on.
    """
    match body:
        case TTCCandidate():
            return _candidate(body, Counter() if dropped is None else dropped, rules)
        case TTCEpisode():
            return _episode(body)
        case TTCTurnEnd():
            return TurnEnd(run_id=body.run_id, example_id=body.example_id, turn_id=body.turn_id)
        case TTCExampleEnd():
            return ExampleEnd(run_id=body.run_id, example_id=body.example_id)


def single(
    run_id: str,
    example_id: str,
    turn_id: str,
    member: TurnMember,
    prompt: Prompt,
    expected: int | None = None,
) -> CandidateStep | TurnStep:
    """Return one candidate of a turn; one that a :class:`CandidateStep` cannot hold is a turn of one."""
    response, score = member.response, member.score
    if score is None or not isinstance(response, str):
        return TurnStep.of_valid(
            run_id=run_id,
            example_id=example_id,
            turn_id=turn_id,
            prompt=prompt,
            tools=None,
            prompt_token_ids=None,
            candidates=[member],
            complete=False,
            expected_candidates=expected,
        )
    return CandidateStep.of_valid(
        run_id=run_id,
        example_id=example_id,
        turn_id=turn_id,
        candidate_id=member.candidate_id,
        candidate_index=member.candidate_index,
        prompt=prompt,
        response=response,
        score=score,
        expected_candidates=expected,
        policy_version=member.policy_version,
        raw_metadata=member.raw_metadata,
    )


def _candidate(body: TTCCandidate, dropped: Counter[str], rules: CandidateRules) -> CandidateStep | TurnStep:
    check_range("score", body.score)
    sent, answered = body.prompt, body.response
    prompt = sent if isinstance(sent, str) else read_prompt(sent, "prompt", dropped)
    response = answered if isinstance(answered, str) else read_response(answered, "response", dropped)
    member = TurnMember.of_valid(
        candidate_id=candidate_id(body.run_id, body.example_id, body.turn_id, body.candidate_id),
        candidate_index=body.candidate_index,
        response=response,
        score=body.score,
        policy_version=body.policy_version,
        token_ids=None,
        raw_metadata=body.metadata or {},
    )
    prompt = prompt if rules.keeps_answers else without_answer(prompt, response)
    return single(body.run_id, body.example_id, body.turn_id, member, prompt, body.expected_candidates)


def normalise_score(body: TTCScore, rules: CandidateRules) -> ScoreStep:
    """Normalise a score that comes after its candidate.

    Raises:
        Refused: when the run takes none, or the score is out of range.
    """
    if not rules.scores_later:
        raise Refused(
            "wrong_builder",
            f"run {body.run_id!r} takes no score after its candidate; set `scores: later` or a "
            "reward_function in its file, apply it and replay",
        )
    check_range("score", body.score)
    return ScoreStep.of_valid(
        run_id=body.run_id,
        example_id=body.example_id,
        turn_id=body.turn_id,
        candidate_id=candidate_id(body.run_id, body.example_id, body.turn_id, body.candidate_id),
        score=body.score,
        source=body.source,
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
