"""What was deleted before it was read, told apart from what is no record."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from tunestream.streams.gaps import Gap, Gaps, Jumps, gap_before

PLACE = TopicPartition("ttc.events", 1)


class Beginnings:
    """A consumer that knows where a topic begins."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked += 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(places, answer)


@pytest.mark.parametrize(("position", "beginning"), [(5, 5), (5, 3), (5, 6)])
def test_what_is_left_may_begin_before_the_position_or_behind_the_mark_of_a_transaction(
    position: int, beginning: int
) -> None:
    assert gap_before(PLACE, position, beginning) is None


def test_more_than_a_mark_is_missing() -> None:
    assert gap_before(PLACE, 5, 9) == Gap(PLACE, 5, 9)


async def found(position: int, offset: int, beginning: int) -> list[Gap]:
    jumps = Jumps()
    jumps.note(PLACE, position, offset)
    consumer: Any = Beginnings(beginning)
    return await jumps.gaps(consumer)


async def test_a_jump_over_aborted_records_is_no_gap() -> None:
    assert await found(5, 40, beginning=0) == []


async def test_a_jump_to_what_is_left_is_a_gap() -> None:
    assert await found(5, 40, beginning=40) == [Gap(PLACE, 5, 40)]
    assert await found(5, 41, beginning=40) == [Gap(PLACE, 5, 40)]
    assert await found(5, 40, beginning=90) == [Gap(PLACE, 5, 40)]  # deleted after they were read


async def test_the_broker_is_asked_only_after_jumps() -> None:
    jumps = Jumps()
    for offset in (0, 1, 2):
        jumps.note(PLACE, offset, offset + 1)
    consumer: Any = Beginnings()
    assert await jumps.gaps(consumer) == []
    assert consumer.asked == 0


async def test_a_gap_outlives_a_broker_that_does_not_answer() -> None:
    jumps = Jumps()
    jumps.note(PLACE, 5, 40)
    consumer: Any = Beginnings(TimeoutError("away"), 40)
    with pytest.raises(TimeoutError):
        await jumps.gaps(consumer)
    assert await jumps.gaps(consumer) == [Gap(PLACE, 5, 40)]


def test_a_gap_is_shown_with_both_offsets_and_the_remedy() -> None:
    gaps = Gaps("unit-test")
    gaps.report([Gap(PLACE, 5, 40)])
    (line,) = gaps.warnings()
    assert "partition 1 of ttc.events: offsets 5 to 39" in line
    assert "retention" in line
