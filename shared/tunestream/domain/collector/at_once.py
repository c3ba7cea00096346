"""Candidates and turns that are written from the slices that they came in, in the format of turns.

They are the same, byte for byte, that :mod:`~tunestream.domain.collector.normaliser` and
:mod:`~tunestream.domain.collector.turns` make of the models. What is not as it should be is left to
those: they alone refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from tunestream.domain.collector.bounds import LARGEST_SCORE
from tunestream.domain.collector.rules import CandidateRules
from tunestream.domain.collector.slices import PromptSlice, prompt_slice, response_slice, tools_slice
from tunestream.domain.effects import Spliced
from tunestream.events.ids import candidate_id, turn_record_id
from tunestream.events.views.candidates import MemberView, TurnView, encode_part
from tunestream.events.views.published import PublishedCandidate, PublishedMember, PublishedTurn

__all__ = ["Written", "candidate_at_once", "turn_at_once"]


class Written(NamedTuple):
    """A body that is ready, and its event's id."""

    id: str
    body: Spliced


def candidate_at_once(
    event: PublishedCandidate, rules: CandidateRules, dropped: Counter[str]
) -> list[Written] | None:
    """Return what is written of a candidate; None when the models have to decide."""
    sent, found = event.member, Counter[str]()
    try:
        prompt = prompt_slice(event.prompt)
        response = response_slice(sent.response, found)
        _check_score(sent.score, scores_later=False)
    except ValueError:
        return None
    _count(found, prompt, dropped)
    name = candidate_id(event.run_id, event.example_id, event.turn_id, sent.candidate_id)
    asked = prompt.before if not rules.keeps_answers and prompt.ends_in(response) else prompt.written
    if response[:1] != b'"':
        member = _member(sent, name, response)
        return [
            _part(event.run_id, event.example_id, event.turn_id, asked, [member], event.expected_candidates)
        ]
    body = orjson.dumps(
        {
            "run_id": event.run_id,
            "example_id": event.example_id,
            "turn_id": event.turn_id,
            "candidate_id": name,
            "candidate_index": sent.candidate_index,
            "prompt": orjson.Fragment(asked),
            "response": orjson.Fragment(response),
            "score": sent.score,
            "expected_candidates": event.expected_candidates,
            "policy_version": sent.policy_version,
            "raw_metadata": orjson.Fragment(sent.metadata),
        }
    )
    return [Written(name, Spliced("tunestream.candidate.v1", body))]


def turn_at_once(event: PublishedTurn, rules: CandidateRules, dropped: Counter[str]) -> list[Written] | None:
    """Return what is written of a turn; None when the models have to decide."""
    if len(event.members) > rules.most:
        return None
    found = Counter[str]()
    try:
        prompt = prompt_slice(event.prompt)
        tools = None if event.tools is None else tools_slice(event.tools)
        members = [_checked(event, sent, rules, found) for sent in event.members]
    except (ValueError, TypeError):
        return None
    if len({member.candidate_id for member in members}) < len(members):
        return None
    _count(found, prompt, dropped)
    parts = _parts(prompt, members, keeps_answers=rules.keeps_answers)
    return [
        _part(
            event.run_id,
            event.example_id,
            event.turn_id,
            asked,
            candidates,
            event.expected_candidates,
            complete=event.complete and number == len(parts),
            tools=tools,
            prompt_token_ids=event.prompt_token_ids if asked is prompt.written else None,
        )
        for number, (asked, candidates) in enumerate(parts, 1)
    ]


def _checked(
    event: PublishedTurn, sent: PublishedMember, rules: CandidateRules, dropped: Counter[str]
) -> MemberView:
    _check_score(sent.score, scores_later=rules.scores_later)
    name = candidate_id(event.run_id, event.example_id, event.turn_id, sent.candidate_id)
    return _member(sent, name, response_slice(sent.response, dropped))


def _check_score(score: float | None, *, scores_later: bool) -> None:
    if score is None:
        if not scores_later:
            raise ValueError("score is missing")
    elif not abs(score) <= LARGEST_SCORE:
        raise ValueError("score is out of range")


def _count(found: Counter[str], prompt: PromptSlice, dropped: Counter[str]) -> None:
    if found:
        dropped.update(found)
    if prompt.dropped:
        dropped["prompt"] += prompt.dropped


def _member(sent: PublishedMember, name: str, response: bytes) -> MemberView:
    return MemberView(
        name,
        sent.candidate_index,
        response,
        sent.score,
        sent.policy_version,
        sent.token_ids,
        sent.metadata,
    )


def _parts(
    prompt: PromptSlice, members: list[MemberView], *, keeps_answers: bool
) -> list[tuple[bytes, list[MemberView]]]:
    """Return the candidates by their prompt: without its last message for those whose answer that is."""
    if keeps_answers or prompt.last is None:
        return [(prompt.written, members)]
    answered = [member for member in members if prompt.ends_in(member.response)]
    others = [member for member in members if not prompt.ends_in(member.response)]
    parts = [(prompt.before, answered), (prompt.written, others)]
    return [(asked, candidates) for asked, candidates in parts if candidates]


def _part(
    run_id: str,
    example_id: str,
    turn_id: str,
    prompt: bytes,
    members: Sequence[MemberView],
    expected: int | None,
    *,
    complete: bool = False,
    tools: bytes | None = None,
    prompt_token_ids: bytes | None = None,
) -> Written:
    part = TurnView(run_id, example_id, turn_id, prompt, (), complete, expected, tools, prompt_token_ids)
    name = turn_record_id(
        run_id, example_id, turn_id, [member.candidate_id for member in members], complete=complete
    )
    return Written(name, Spliced("tunestream.turn.v1", encode_part(part, members)))
