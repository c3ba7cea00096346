"""Candidates and turns that are written from the slices that they came in, in the format of turns.

They are the same, byte for byte, that :mod:`~tunestream.domain.collector.normaliser` and
:mod:`~tunestream.domain.collector.turns` make of the models. What is not as it should be is left to
those: they alone refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from tunestream.domain.collector.bounds import LARGEST_SCORE
from tunestream.domain.collector.prompt_parts import prompt_parts
from tunestream.domain.collector.rules import CandidateRules
from tunestream.domain.collector.slices import prompt_slice, response_slice, tools_slice
from tunestream.domain.effects import Spliced
from tunestream.events.ids import candidate_id, candidate_ids, turn_record_id
from tunestream.events.views.published import PublishedCandidate, PublishedMember, PublishedTurn

__all__ = ["Written", "candidate_at_once", "turn_at_once"]

_CACHED: Final = 256


class Written(NamedTuple):
    """A body that is ready, and its event's id."""

    id: str
    body: Spliced


class _Answer(NamedTuple):
    """A candidate with its deterministic id and its response in its one spelling."""

    id: str
    response: bytes
    sent: PublishedMember


def candidate_at_once(
    event: PublishedCandidate, rules: CandidateRules, dropped: Counter[str]
) -> list[Written] | None:
    """Return what is written of a candidate; None when the models have to decide.

    Args:
        event: as published.
        rules: of its run.
        dropped: counts the keys of messages that are left out; of no use when the models have to decide.
    """
    sent = event.member
    try:
        prompt = prompt_slice(event.prompt)
        response = response_slice(sent.response, dropped)
    except ValueError:
        return None
    if sent.score is None or not abs(sent.score) <= LARGEST_SCORE:
        return None
    if prompt.dropped:
        dropped["prompt"] += prompt.dropped
    name = candidate_id(event.run_id, event.example_id, event.turn_id, sent.candidate_id)
    asked = prompt.before if not rules.keeps_answers and prompt.ends_in(response) else prompt.written
    if response[:1] != b'"':
        return [_part(event, asked, [_Answer(name, response, sent)])]
    body = b'{%b,"candidate_id":"%b","candidate_index":%b,"prompt":%b,"response":%b,"score":%b,%b}' % (
        _names(event),
        name.encode(),
        _number(sent.candidate_index),
        asked,
        response,
        orjson.dumps(sent.score),
        b'"expected_candidates":%b,"policy_version":%b,"raw_metadata":%b'
        % (_number(event.expected_candidates), _quoted(sent.policy_version), sent.metadata),
    )
    return [Written(name, Spliced("tunestream.candidate.v1", body))]


def turn_at_once(event: PublishedTurn, rules: CandidateRules, dropped: Counter[str]) -> list[Written] | None:
    """Return what is written of a turn; None when the models have to decide. Arguments as for a candidate."""
    members = event.members
    sources = [sent.candidate_id for sent in members]
    if len(sources) > rules.most or len(set(sources)) < len(sources) or not _have_scores(members, rules):
        return None
    try:
        prompt = prompt_slice(event.prompt)
        tools = None if event.tools is None else tools_slice(event.tools)
        responses = [response_slice(sent.response, dropped) for sent in members]
    except (ValueError, TypeError):
        return None
    if prompt.dropped:
        dropped["prompt"] += prompt.dropped
    ids = candidate_ids(event.run_id, event.example_id, event.turn_id, sources)
    answers = [_Answer(*each) for each in zip(ids, responses, members, strict=True)]
    shorter = None if rules.keeps_answers or prompt.last is None else prompt.before
    return [
        _part(
            event,
            part.prompt,
            part.members,
            tools=tools,
            # Those of a prompt without its answer are others.
            tokens=event.prompt_token_ids if part.is_whole else None,
            complete=event.complete and part.is_last,
        )
        for part in prompt_parts(
            prompt.written, shorter, answers, lambda answer: prompt.ends_in(answer.response)
        )
    ]


def _have_scores(members: Iterable[PublishedMember], rules: CandidateRules) -> bool:
    for sent in members:
        if sent.score is None:
            if not rules.scores_later:
                return False
        elif not abs(sent.score) <= LARGEST_SCORE:
            return False
    return True


def _part(
    event: PublishedTurn | PublishedCandidate,
    prompt: bytes,
    answers: Sequence[_Answer],
    *,
    tools: bytes | None = None,
    tokens: bytes | None = None,
    complete: bool = False,
) -> Written:
    """Write a record of a turn, as :class:`~tunestream.events.turns.TurnStep` is written."""
    body = b'{%b,"prompt":%b%b%b,"candidates":[%b],"complete":%b%b}' % (
        _names(event),
        prompt,
        b"" if tools is None else b',"tools":' + tools,
        b"" if tokens is None else b',"prompt_token_ids":' + tokens,
        b",".join([_member(answer) for answer in answers]),
        b"true" if complete else b"false",
        _optional(b"expected_candidates", event.expected_candidates),
    )
    ids = [answer.id for answer in answers]
    name = turn_record_id(event.run_id, event.example_id, event.turn_id, ids, complete=complete)
    return Written(name, Spliced("tunestream.turn.v1", body))


def _member(answer: _Answer) -> bytes:
    sent = answer.sent
    return b'{"candidate_id":"%b"%b,"response":%b%b%b%b,"raw_metadata":%b}' % (
        answer.id.encode(),
        _optional(b"candidate_index", sent.candidate_index),
        answer.response,
        b"" if sent.score is None else b',"score":' + orjson.dumps(sent.score),
        b"" if sent.policy_version is None else b',"policy_version":' + _quoted(sent.policy_version),
        b"" if sent.token_ids is None else b',"token_ids":' + sent.token_ids,
        sent.metadata,
    )


def _names(event: PublishedTurn | PublishedCandidate) -> bytes:
    return b'"run_id":%b,"example_id":%b,"turn_id":%b' % (
        _quoted(event.run_id),
        orjson.dumps(event.example_id),
        orjson.dumps(event.turn_id),
    )


@lru_cache(maxsize=_CACHED)
def _quoted(text: str | None) -> bytes:
    return orjson.dumps(text)


def _number(value: int | None) -> bytes:
    return b"null" if value is None else b"%d" % value


def _optional(name: bytes, value: int | None) -> bytes:
    return b"" if value is None else b',"%b":%d' % (name, value)
