"""Where the records of a transaction lie."""

from __future__ import annotations

import pytest

from tunestream.domain.effects import Effects
from tunestream.domain.ticks import new_tick
from tunestream.streams.broker.topic_plan import UnequalPartitions
from tunestream.streams.tasks.encoding import BatchSet, TransactionWriter


def test_topics_with_unequal_partitions_are_named_with_the_remedy() -> None:
    writer = TransactionWriter("ttc-collector", 3, "mine.", {"ttc.candidates": 2}, None)
    effects = Effects(outbound=[new_tick("ttc.candidates", 3, 1_000)])
    with pytest.raises(UnequalPartitions, match=r"mine\.ttc\.candidates has 2 partitions.*new topic prefix"):
        writer.outbound(BatchSet(None), effects)
