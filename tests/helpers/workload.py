"""Turns to publish, the same every time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final

from tunestream.config.settings import KafkaSettings
from tunestream.events.scores import TTCScore
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.sdk import TTCPublisher

RUNS: Final = ("red", "green", "blue", "grey")
CANDIDATES: Final = 3
PAIRS: Final = 3
TURNS_PER_EXAMPLE: Final = 2

Event = TTCTurn | TTCCandidate | TTCScore | TTCTurnEnd | TTCExampleEnd
Example = tuple[str, int]


def blocks(turns: int, open_at_once: int = 120) -> Iterator[list[Event]]:
    """Yield the events of `turns` turns; those of a block are open together, so that a kill meets state.

    By their numbers, examples close their turns by the count of candidates, the turn's end or the example's
    end; or their turns are records, whole ones, or a part that a single candidate and an end follow.
    """
    examples = [(run, number) for number in range(turns // TURNS_PER_EXAMPLE // len(RUNS)) for run in RUNS]
    size = open_at_once // TURNS_PER_EXAMPLE
    for start in range(0, len(examples), size):
        block = examples[start : start + size]
        yield [*_candidates(block), *_ends(block)]


class _Way(IntEnum):
    """How the turns of an example come and end."""

    COUNTED = 0
    TURN_END = 1
    EXAMPLE_END = 2
    WHOLE = 3
    PARTS = 4


def _way(number: int) -> _Way:
    return _Way(number % len(_Way))


def _candidates(block: Iterable[Example]) -> Iterator[Event]:
    for index in range(CANDIDATES):
        for run, number in block:
            for turn in range(TURNS_PER_EXAMPLE):
                if _way(number) < _Way.WHOLE or (_way(number) is _Way.PARTS and index == CANDIDATES - 1):
                    yield _single(run, number, turn, index)
                elif index == 0:
                    yield _record(run, number, turn)


def _score(number: int, turn: int, index: int) -> float:
    return (number * 7 + index * (1 + turn)) % 11 + index / 8


def _single(run: str, number: int, turn: int, index: int) -> TTCCandidate:
    return TTCCandidate(
        run_id=run,
        example_id=f"example-{number}",
        turn_id=f"turn-{turn}",
        candidate_id=str(index),
        candidate_index=index,
        prompt=f"prompt {number}.{turn}",
        response=f"response {index}",
        score=_score(number, turn, index),
        expected_candidates=CANDIDATES if _way(number) is _Way.COUNTED else None,
    )


def _record(run: str, number: int, turn: int) -> TTCTurn:
    whole = _way(number) is _Way.WHOLE
    return TTCTurn(
        run_id=run,
        example_id=f"example-{number}",
        turn_id=f"turn-{turn}",
        prompt=f"prompt {number}.{turn}",
        candidates=[
            TTCTurnCandidate(
                candidate_id=str(index),
                candidate_index=index,
                response=f"response {index}",
                score=_score(number, turn, index),
            )
            for index in range(CANDIDATES if whole else CANDIDATES - 1)
        ],
        complete=whole,
    )


def _ends(block: Iterable[Example]) -> Iterator[Event]:
    for run, number in block:
        example = f"example-{number}"
        if _way(number) in (_Way.TURN_END, _Way.PARTS):
            for turn in range(TURNS_PER_EXAMPLE):
                yield TTCTurnEnd(run_id=run, example_id=example, turn_id=f"turn-{turn}")
        elif _way(number) is _Way.EXAMPLE_END:
            yield TTCExampleEnd(run_id=run, example_id=example)


async def publish(
    settings: KafkaSettings, turns: int, *, times: int = 1, pause: float = 0.0, chunk: int = 60
) -> int:
    """Publish every event `times` times, block by block, with a pause after each chunk; count them."""
    count = 0
    async with TTCPublisher(settings) as publisher:
        for block in blocks(turns):
            for event in block * times:
                await publisher.publish(event)
                count += 1
                if pause and count % chunk == 0:
                    await asyncio.sleep(pause)
    return count
