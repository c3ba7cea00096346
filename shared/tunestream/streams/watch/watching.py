"""The watchdog at work: looks at every assigned partition, and shows what stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.watch import metrics
from tunestream.streams.watch.watchdog import Judge, Place, Sighting, Stall

__all__ = ["BothEnds", "Watch"]

log = structlog.get_logger(__name__)
_INTERVAL: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0


class BothEnds:
    """Both ends of partitions, and whether the broker is away."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._stable = Watermarks(settings, committed=True)
        self._high = Watermarks(settings)

    async def of(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]] | None:
        """Return the last stable offset and the high watermark of partitions.

        Returns:
            None when the broker is away: a fresh connection fails as well.
        """
        for _ in range(2):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    stable, high = await self._stable.ends(places), await self._high.ends(places)
                    return {place: (stable[place], high[place]) for place in places}
            except (KafkaError, OSError, TimeoutError):
                await self.close()
        return None

    async def close(self) -> None:
        """Close the connections."""
        for ends in (self._stable, self._high):
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await ends.close()


class Watch:
    """Looks at the assigned partitions, again and again.

    Args:
        service: name, for metrics and logs.
        settings: the broker.
        deadline: seconds after which a partition that stands still is reported.
        sight: returns the assigned partitions as they are; ends of partitions are filled in here.
        on_unopened: is given the number of a partition that nothing opens.
    """

    def __init__(
        self,
        service: str,
        settings: KafkaSettings,
        deadline: float,
        sight: Callable[[], Sequence[Sighting]],
        on_unopened: Callable[[int], None],
    ) -> None:
        self._service = service
        self._ends = BothEnds(settings)
        self._interval = min(_INTERVAL, deadline / 4)
        self._judge = Judge(deadline)
        self._sight = sight
        self._on_unopened = on_unopened
        self._stalls: dict[Place, Stall] = {}
        self._seen: set[Place] = set()
        self._log = log.bind(service=service)

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._interval)
                await self._look()
        finally:
            self._show(set(), [])
            await self._ends.close()

    async def _look(self) -> None:
        places = [TopicPartition(*seen.place) for seen in self._sight()]
        ends = await self._ends.of(places) if places else {}
        # The positions as they are after the ends were asked for: what moved meanwhile does not stand still.
        sightings = [self._with_ends(seen, ends) for seen in self._sight()]
        stalls = self._judge.look(sightings, self._interval)
        self._show({seen.place for seen in sightings}, stalls)
        for stall in stalls:
            if not stall.explained:
                self._on_unopened(stall.place.partition)

    def _with_ends(self, seen: Sighting, ends: Mapping[TopicPartition, tuple[int, int]] | None) -> Sighting:
        if ends is None:
            return seen
        known = ends.get(TopicPartition(*seen.place))
        if known is None:  # assigned meanwhile: nothing is known yet, and nothing is wrong
            return replace(seen, stable=seen.position or 0, high=seen.position or 0)
        return replace(seen, stable=known[0], high=max(known))

    def _show(self, seen: set[Place], stalls: Sequence[Stall]) -> None:
        before, self._stalls = self._stalls, {stall.place: stall for stall in stalls}
        for gone in self._seen - seen:
            metrics.STALLED.remove(self._service, *map(str, gone))
        self._seen = seen
        for place in seen:
            metrics.STALLED.labels(self._service, *place).set(place in self._stalls)
        for place, stall in self._stalls.items():
            if place not in before or before[place].explained != stall.explained:
                self._log.error("partition.stalled", **_fields(stall))
        for place in (before.keys() - self._stalls.keys()) & seen:
            self._log.info("partition.moving", topic=place[0], partition=place[1])

    def reasons(self) -> list[str]:
        """Return why the service is not ready, a line for each partition that stands still."""
        return [str(stall) for _, stall in sorted(self._stalls.items())]

    def dead(self) -> list[str]:
        """Return why the service should be started again, a line for each such partition."""
        return [str(stall) for _, stall in sorted(self._stalls.items()) if stall.dead]


def _fields(stall: Stall) -> dict[str, object]:
    return {
        "topic": stall.place.topic,
        "partition": stall.place.partition,
        "offset": stall.offset,
        "seconds": round(stall.seconds, 1),
        "reason": stall.reason,
        "explained": stall.explained,
    }
