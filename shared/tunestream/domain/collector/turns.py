"""From a published turn to what the pair builder reads; candidates at fault are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError

from tunestream.domain.collector.prompt_parts import prompt_parts
from tunestream.domain.collector.prompts import (
    CONVERSATION,
    is_answer,
    read_prompt,
    read_response,
    read_tools,
)
from tunestream.domain.collector.rules import CandidateRules, Fault
from tunestream.domain.effects import Refused
from tunestream.domain.refusals import refusal_of
from tunestream.events.ids import candidate_id
from tunestream.events.messages import OpenAIMessage, Prompt
from tunestream.events.ttc import TurnEnd
from tunestream.events.turns import ReceivedTurn, TTCTurn, TTCTurnCandidate, TurnMember, TurnStep

__all__ = ["NormalisedTurn", "normalise_turn"]


class NormalisedTurn(NamedTuple):
    """What becomes of a published turn.

    Attributes:
        steps: mostly one; more where the prompt ends in the answer of some of the candidates; the end of the
            turn alone where every candidate of a complete one is at fault.
        faults: the candidates that are left out, by position.
        repeats: candidates that were in the record before, with the same content.
    """

    steps: list[TurnStep | TurnEnd]
    faults: list[Fault]
    repeats: int


def normalise_turn(
    body: TTCTurn | ReceivedTurn, rules: CandidateRules, dropped: Counter[str]
) -> NormalisedTurn:
    """Normalise a turn.

    Args:
        body: as published.
        rules: of its run.
        dropped: counts the keys of messages that are left out.

    Raises:
        Refused: when prompt or tools cannot be trained on.
    """
    prompt = read_prompt(body.prompt, "prompt", dropped)
    members, faults, repeats = _members(body, rules, dropped)
    last = _conversation(prompt, rules)[-1:]
    shorter = prompt[:-1] if last else None
    tools = read_tools(body.tools)
    steps: list[TurnStep | TurnEnd] = [
        TurnStep.of_valid(
            run_id=body.run_id,
            example_id=body.example_id,
            turn_id=body.turn_id,
            prompt=part.prompt,
            tools=tools,
            # Those of a prompt without its answer are others.
            prompt_token_ids=body.prompt_token_ids if part.is_whole else None,
            candidates=list(part.members),
            complete=body.complete and part.is_last,
            expected_candidates=body.expected_candidates,
        )
        for part in prompt_parts(
            prompt, shorter, list(members.values()), lambda member: is_answer(last, member.response)
        )
    ]
    if not steps and body.complete:
        steps.append(TurnEnd(run_id=body.run_id, example_id=body.example_id, turn_id=body.turn_id))
    return NormalisedTurn(steps, faults, repeats)


def _conversation(prompt: Prompt, rules: CandidateRules) -> Sequence[OpenAIMessage]:
    """Return the messages of a prompt whose last one may be an answer, none of any other."""
    if rules.keeps_answers or isinstance(prompt, str) or len(prompt) < CONVERSATION:
        return ()
    return prompt


def _members(
    body: TTCTurn | ReceivedTurn, rules: CandidateRules, dropped: Counter[str]
) -> tuple[dict[str, TurnMember], list[Fault], int]:
    """Return the good candidates by their id, the faults, and how many were repeats."""
    members: dict[str, TurnMember] = {}
    faults: list[Fault] = []
    repeats = 0
    for at, candidate in enumerate(body.candidates):
        try:
            member = _member(body, candidate, rules, dropped)
            known = members.setdefault(member.candidate_id, member)
            if known is not member:
                _check_repeat(known, member)
                repeats += 1
            elif len(members) > rules.most:
                del members[member.candidate_id]
                raise _full(rules.most)
        except Refused as refused:
            faults.append((at, refused))
    return members, faults, repeats


def _member(
    body: TTCTurn, candidate: TTCTurnCandidate | ValidationError, rules: CandidateRules, dropped: Counter[str]
) -> TurnMember:
    if isinstance(candidate, ValidationError):
        raise refusal_of(candidate, TTCTurnCandidate.__name__)
    rules.check_score("score", candidate.score)
    response = candidate.response
    return TurnMember.of_valid(
        candidate_id=candidate_id(body.run_id, body.example_id, body.turn_id, candidate.candidate_id),
        candidate_index=candidate.candidate_index,
        response=response if isinstance(response, str) else read_response(response, "response", dropped),
        score=candidate.score,
        policy_version=body.policy_version if candidate.policy_version is None else candidate.policy_version,
        token_ids=candidate.token_ids,
        raw_metadata=candidate.metadata or {},
    )


def _full(most: int) -> Refused:
    return Refused(
        "turn_full",
        f"a turn has {most} candidates at most; raise max_candidates_per_turn of its run",
    )


def _check_repeat(known: TurnMember, member: TurnMember) -> None:
    if (known.response, known.score, known.candidate_index) != (
        member.response,
        member.score,
        member.candidate_index,
    ):
        raise Refused(
            "contradiction",
            "this id is in the turn before, with other content; give every candidate an id of its own",
        )
