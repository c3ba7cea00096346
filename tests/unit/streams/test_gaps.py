"""What was deleted before it was read, told apart from what is no record."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from tunestream.streams.fetch.resets import Gap
from tunestream.streams.offsets.gaps import Gaps, gap_before
from tunestream.streams.watch import metrics

PLACE = TopicPartition("ttc.events", 1)


@pytest.mark.parametrize(("position", "beginning"), [(5, 5), (5, 3), (5, 6)])
def test_what_is_left_may_begin_before_the_position_or_behind_the_mark_of_a_transaction(
    position: int, beginning: int
) -> None:
    assert gap_before(PLACE, position, beginning) is None


def test_more_than_a_mark_is_missing() -> None:
    assert gap_before(PLACE, 5, 9) == Gap(PLACE, 5, 9)


def test_a_gap_is_shown_with_both_offsets_and_the_remedy() -> None:
    gaps = Gaps("unit-test")
    gaps.report([Gap(PLACE, 5, 40)])
    (line,) = gaps.warnings()
    assert "partition 1 of ttc.events: offsets 5 to 39" in line
    assert "retention" in line


def test_a_gap_that_is_found_twice_counts_once() -> None:
    """The client passes it, and the opening of the partition meets it again."""
    gaps = Gaps("unit-test-twice")
    for gap in (Gap(PLACE, 5, 40), Gap(PLACE, 5, 40), Gap(PLACE, 30, 45), Gap(PLACE, 50, 60)):
        gaps.report([gap])
    counted = metrics.GAPS.labels("unit-test-twice", *PLACE)._value.get()
    assert counted == 35 + 5 + 10
