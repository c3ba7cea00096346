"""Generated records: four candidates a turn, of about 1.6 kB each on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import candidate_id
from tunestream.events.keys import encode_key
from tunestream.events.registry import type_of
from tunestream.events.ttc import CandidateStep, TTCCandidate
from tunestream.events.turns import TTCTurn, TTCTurnCandidate, TurnMember, TurnStep

__all__ = [
    "CANDIDATES_A_TURN",
    "RUN",
    "Record",
    "candidate_events",
    "candidate_steps",
    "turn_events",
    "turn_steps",
    "turns_of",
]

RUN = "bench"
CANDIDATES_A_TURN = 4
TURNS_AN_EXAMPLE = 10
# Agents work side by side: so many turns are open at a time, over all partitions.
TURNS_SIDE_BY_SIDE = 256
CANDIDATES_A_SECOND = 2000
START_MS = 1_767_225_600_000
_WORDS = ("the", "board", "shows", "a", "position", "which", "either", "side", "may", "still", "force")


@dataclass(frozen=True)
class Record:
    """One record to write: time in ms since the epoch."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True)
class _Draft:
    example_id: str
    turn_id: str
    index: int
    prompt: str
    response: str
    score: float
    time: int


def _text(rng: Random, length: int) -> str:
    words = " ".join(rng.choices(_WORDS, k=length // 4))
    return words[:length]


def _drafts(
    prompt_length: int,
    response_length: int,
    examples: str = "example",
    side_by_side: int = TURNS_SIDE_BY_SIDE,
    turns_an_example: int = TURNS_AN_EXAMPLE,
) -> Iterator[_Draft]:
    """Give candidates without end; the turns of a block interleave."""
    rng = Random(0)
    number = block = 0
    while True:
        turns = range(block * side_by_side, (block + 1) * side_by_side)
        prompts = {turn: _text(rng, prompt_length) for turn in turns}
        for index in range(CANDIDATES_A_TURN):
            for turn in turns:
                yield _Draft(
                    example_id=f"{examples}-{turn // turns_an_example}",
                    turn_id=f"turn-{turn}",
                    index=index,
                    prompt=prompts[turn],
                    response=f"{number} {_text(rng, response_length)}",
                    score=rng.random(),
                    time=START_MS + number * 1000 // CANDIDATES_A_SECOND,
                )
                number += 1
        block += 1


def turns_of(candidates: int) -> int:
    """Return how many turns so many candidates make; whole blocks of turns only."""
    block = TURNS_SIDE_BY_SIDE * CANDIDATES_A_TURN
    if candidates % block:
        raise ValueError(f"{candidates} candidates end within a block of {block}")
    return candidates // CANDIDATES_A_TURN


def whole_blocks(candidates: int) -> int:
    """Return the least number of candidates in whole blocks of turns, not below ``candidates``."""
    block = TURNS_SIDE_BY_SIDE * CANDIDATES_A_TURN
    return -(-candidates // block) * block


def candidate_events(count: int, *, complete: bool = True) -> Iterator[Record]:
    """Give records of ``ttc.events``; without ``complete`` the turns stay open."""
    expected = CANDIDATES_A_TURN if complete else None
    for draft in islice(_drafts(500, 330), count):
        body = TTCCandidate(
            run_id=RUN,
            example_id=draft.example_id,
            turn_id=draft.turn_id,
            candidate_id=f"candidate-{draft.index}",
            candidate_index=draft.index,
            prompt=draft.prompt,
            response=draft.response,
            score=draft.score,
            expected_candidates=expected,
            policy_version="0123456789abcdef",
            metadata=_metadata(draft),
        )
        yield _record(body, f"{draft.turn_id}/{draft.index}", draft, {})


def candidate_steps(
    count: int,
    digest: str,
    *,
    complete: bool = True,
    examples: str = "example",
    side_by_side: int = TURNS_SIDE_BY_SIDE,
    turns_an_example: int = TURNS_AN_EXAMPLE,
) -> Iterator[Record]:
    """Give records of ``ttc.candidates`` under a configuration, as the collector writes them.

    Args:
        count: how many.
        digest: of the configuration.
        complete: whether turns say how many candidates they have; else they stay open.
        examples: how the names of examples begin.
        side_by_side: so many turns are open at a time; a turn is complete after as many times four records.
        turns_an_example: all of them lie in one partition.
    """
    expected = CANDIDATES_A_TURN if complete else None
    drafts = _drafts(500, 330, examples, side_by_side, turns_an_example)
    for number, draft in enumerate(islice(drafts, count)):
        identity = candidate_id(RUN, draft.example_id, draft.turn_id, f"candidate-{draft.index}")
        body = CandidateStep(
            run_id=RUN,
            example_id=draft.example_id,
            turn_id=draft.turn_id,
            candidate_id=identity,
            candidate_index=draft.index,
            prompt=draft.prompt,
            response=draft.response,
            score=draft.score,
            expected_candidates=expected,
            policy_version="0123456789abcdef",
            raw_metadata=_metadata(draft),
        )
        yield _record(body, identity, draft, {"tsdigest": digest, "tsorigin": f"0/{number}"})


def turn_events(turns: int, size: int, prompt_length: int, response_length: int) -> Iterator[Record]:
    """Give records of ``ttc.events``: whole turns of ``size`` candidates; lengths in characters."""
    for drafts in _whole_turns(turns, size, prompt_length, response_length):
        first = drafts[0]
        body = TTCTurn(
            run_id=RUN,
            example_id=first.example_id,
            turn_id=first.turn_id,
            prompt=first.prompt,
            candidates=[
                TTCTurnCandidate(
                    candidate_id=f"candidate-{draft.index}",
                    candidate_index=draft.index,
                    response=draft.response,
                    score=draft.score,
                    metadata=_metadata(draft),
                )
                for draft in drafts
            ],
            policy_version="0123456789abcdef",
        )
        yield _record(body, first.turn_id, first, {})


def turn_steps(
    turns: int, digest: str, size: int, prompt_length: int, response_length: int
) -> Iterator[Record]:
    """Give the same turns as records of ``ttc.candidates``, as the collector writes them."""
    for number, drafts in enumerate(_whole_turns(turns, size, prompt_length, response_length)):
        first = drafts[0]
        body = TurnStep(
            run_id=RUN,
            example_id=first.example_id,
            turn_id=first.turn_id,
            prompt=first.prompt,
            candidates=[
                TurnMember(
                    candidate_id=candidate_id(RUN, first.example_id, first.turn_id, f"c-{draft.index}"),
                    candidate_index=draft.index,
                    response=draft.response,
                    score=draft.score,
                    policy_version="0123456789abcdef",
                    raw_metadata=_metadata(draft),
                )
                for draft in drafts
            ],
            complete=True,
        )
        yield _record(body, first.turn_id, first, {"tsdigest": digest, "tsorigin": f"0/{number}"})


def _whole_turns(turns: int, size: int, prompt_length: int, response_length: int) -> Iterator[list[_Draft]]:
    rng = Random(0)
    for turn in range(turns):
        prompt = _text(rng, prompt_length)
        time = START_MS + turn * size * 1000 // CANDIDATES_A_SECOND
        yield [
            _Draft(
                f"example-{turn // TURNS_AN_EXAMPLE}",
                f"turn-{turn}",
                index,
                prompt,
                f"{index} {_text(rng, response_length)}",
                rng.random(),
                time,
            )
            for index in range(size)
        ]


def _metadata(draft: _Draft) -> dict[str, object]:
    return {"temperature": 0.8, "model": "player", "latency_ms": draft.index * 3 + 12, "tags": ["bench"]}


def _record(body: Wire, identity: str, draft: _Draft, extensions: dict[str, str]) -> Record:
    envelope = Envelope(identity, type_of(body), "/bench", draft.time, extensions)
    return Record(encode_key(RUN, draft.example_id), body.to_json(), envelope.to_headers())
