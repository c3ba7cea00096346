"""Where a task begins to read an input, without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from tunestream.config.settings import KafkaSettings
from tunestream.streams.changelog.values import Reached
from tunestream.streams.offsets.starts import Starts
from tunestream.topics import topic

PLACE = TopicPartition("ttc.events", 0)


class Log:
    """A consumer of one partition, whose records have these times."""

    def __init__(self, *times: int) -> None:
        self._times = times

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, len(self._times))

    async def offsets_for_times(self, moments: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        ((place, moment),) = moments.items()
        found = (offset for offset, time in enumerate(self._times) if time >= moment)
        offset = next(found, None)
        return {place: None if offset is None else SimpleNamespace(offset=offset)}


async def start(committed: int | None, reached: Reached | None, *times: int) -> int:
    consumer: Any = Log(*times)
    starts = Starts(KafkaSettings(), consumer, "ttc-collector")
    return await starts.find(PLACE, topic("ttc.events"), committed, reached)


@pytest.mark.parametrize("time", [5, None])
async def test_a_group_offset_beyond_the_end_passes_no_record(
    time: int | None,
) -> None:
    """Records of one batch have one time: what follows the last one that was handled may have the same."""
    assert await start(10_000, Reached(3, time), 5, 5, 5, 5, 5) == 3


async def test_a_state_beyond_the_end_goes_on_at_the_first_younger_record() -> None:
    assert await start(10_000, Reached(9_000, 5), 4, 5, 6, 7) == 2
    assert await start(10_000, Reached(9_000, None), 4, 5, 6, 7) == 0
    assert await start(10_000, None, 4, 5, 6, 7) == 0


async def test_an_input_of_which_nothing_was_handled_yet_is_no_fault() -> None:
    """As the second input of a pair builder whose runs all have their scores."""
    consumer: Any = Log(4, 5)
    starts = Starts(KafkaSettings(), consumer, "pair-builder")
    assert await starts.find(PLACE, topic("ttc.scores"), None, Reached(0)) == 0
    assert starts.moves == []
    assert await starts.find(PLACE, topic("ttc.scores"), None, Reached(1, 4)) == 1
    assert [move.place for move in starts.moves] == [PLACE]
