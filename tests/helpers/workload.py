"""Turns to publish, the same every time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from tunestream.config.settings import KafkaSettings
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd
from tunestream.sdk import TTCPublisher

RUNS: Final = ("red", "green", "blue", "grey")
CANDIDATES: Final = 3
PAIRS: Final = 3
TURNS_PER_EXAMPLE: Final = 2

Event = TTCCandidate | TTCTurnEnd | TTCExampleEnd
Example = tuple[str, int]


def blocks(turns: int, open_at_once: int = 120) -> Iterator[list[Event]]:
    """Yield the events of `turns` turns; those of a block are open together, so that a kill meets state.

    A third of the examples closes its turns by number, a third by the turn's and a third by the
    example's end.
    """
    examples = [(run, number) for number in range(turns // TURNS_PER_EXAMPLE // len(RUNS)) for run in RUNS]
    size = open_at_once // TURNS_PER_EXAMPLE
    for start in range(0, len(examples), size):
        block = examples[start : start + size]
        yield [*_candidates(block), *_ends(block)]


def _candidates(block: Iterable[Example]) -> Iterator[Event]:
    for index in range(CANDIDATES):
        for run, number in block:
            for turn in range(TURNS_PER_EXAMPLE):
                yield TTCCandidate(
                    run_id=run,
                    example_id=f"example-{number}",
                    turn_id=f"turn-{turn}",
                    candidate_id=str(index),
                    candidate_index=index,
                    prompt=f"prompt {number}.{turn}",
                    response=f"response {index}",
                    score=(number * 7 + index * (1 + turn)) % 11 + index / 8,
                    expected_candidates=CANDIDATES if number % 3 == 0 else None,
                )


def _ends(block: Iterable[Example]) -> Iterator[Event]:
    for run, number in block:
        example = f"example-{number}"
        if number % 3 == 1:
            for turn in range(TURNS_PER_EXAMPLE):
                yield TTCTurnEnd(run_id=run, example_id=example, turn_id=f"turn-{turn}")
        elif number % 3 == 2:
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
