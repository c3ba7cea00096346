"""Ticks: records that carry stream time on where nothing else does."""

from __future__ import annotations

from typing import Final

from tunestream.domain.effects import Outbound
from tunestream.events.ids import stable_id
from tunestream.events.ttc import EVERY_RUN, Tick

__all__ = ["TICK_MS", "new_tick"]

TICK_MS: Final = 1_000
"""Stream time that no record carries on gets a tick after so long, ms."""


def new_tick(topic: str, partition: int, time: int) -> Outbound:
    """Return a tick for one partition of a topic (catalogue name) at stream time ``time``, ms."""
    return Outbound(
        topic=topic,
        body=Tick(run_id=EVERY_RUN),
        id=stable_id("tick", topic, str(partition), str(time)),
        time=time,
        key=(EVERY_RUN,),
        partition=partition,
    )
