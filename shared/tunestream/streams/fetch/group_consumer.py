"""The consumer of a service: no error of a poll loses a record in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError

from tunestream.streams.fetch.consumer import Consumer

__all__ = ["GroupConsumer", "PollError"]

log = structlog.get_logger(__name__)
_RETRY_SECONDS: Final = 1.0
# An empty poll proves nothing: the fetch that will raise may be on its way.
_CAREFUL_SECONDS: Final = 10.0

Polled = dict[TopicPartition, list[ConsumerRecord]]


@dataclass(frozen=True, slots=True)
class PollError:
    """The latest error of a partition's polls; ``at`` is monotonic, in seconds."""

    error: Exception
    at: float


class GroupConsumer(Consumer):
    """The consumer of a service: its polls do not raise.

    A poll that raises has thrown away what it had of other partitions, with their positions moved. So
    positions are put back, and the next polls take one partition at a time until all of them succeed again:
    one that cannot be read stops itself alone.

    Args:
        *topics: as the client takes them.
        put_back: puts the position of the partition that was polled back to where its records are handled
            next; None for a poll of all of them.
        leaves: returns whether a static member leaves the group at its end; else its place is kept for it.
        **options: as the client takes them.

    Attributes:
        errors: of the partitions whose polls raise at the moment.
        failure: of the latest poll of all partitions, None when it succeeded.
    """

    def __init__(
        self,
        *topics: str,
        put_back: Callable[[TopicPartition | None], None],
        leaves: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> None:
        super().__init__(*topics, **options)
        self._put_back = put_back
        self._leaves = leaves
        self._careful_until = 0.0
        self.errors: dict[TopicPartition, PollError] = {}
        self.failure: PollError | None = None

    async def start(self) -> None:
        """Start the client and join the group."""
        await super().start()
        if (membership := self.membership) is not None:
            membership.set_name("group membership")

    @property
    def membership(self) -> asyncio.Task[None] | None:
        """What keeps the place in the group, None before the start; a fault of the client ends it."""
        return None if self._coordinator is None else self._coordinator._coordination_task  # noqa: SLF001

    async def stop(self) -> None:
        """Stop the client."""
        if self._leaves() and self._coordinator is not None:
            self._coordinator._group_instance_id = None  # noqa: SLF001 - as a static member it would stay
        await super().stop()

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Polled:
        """Return what was fetched, by partition.

        Raises:
            ConsumerStoppedError: when the consumer was stopped.
        """
        if self.errors or monotonic() < self._careful_until:
            return await self._poll_one_by_one(timeout_ms, max_records)
        try:
            polled = await self._poll(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except ConsumerStoppedError:
            raise
        except Exception as error:  # UnicodeDecodeError is no KafkaError
            self.failure = PollError(error, monotonic())
            self._careful_until = self.failure.at + _CAREFUL_SECONDS
            self._put_back(None)
            log.exception("poll.failed")
            return {}
        self.failure = None
        return polled

    async def _poll_one_by_one(self, timeout_ms: int, max_records: int | None) -> Polled:
        places = sorted(self.assignment())
        share = None if max_records is None else max(1, max_records // max(1, len(places)))
        polled: Polled = {}
        for place in places:
            polled |= await self._poll_one(place, share)
        self.errors = {place: error for place, error in self.errors.items() if place in places}
        if not polled:
            await asyncio.sleep(timeout_ms / 1000)
        return polled

    async def _poll_one(self, place: TopicPartition, max_records: int | None) -> Polled:
        known = self.errors.get(place)
        if known is not None and monotonic() - known.at < _RETRY_SECONDS:
            return {}
        try:
            polled = await self._poll(place, timeout_ms=0, max_records=max_records)
        except ConsumerStoppedError:
            raise
        except Exception as error:  # as above
            self.errors[place] = PollError(error, monotonic())
            self._put_back(place)
            if known is None or repr(known.error) != repr(error):
                offset = self.positions().get(place)
                log.exception("poll.failed", topic=place.topic, partition=place.partition, offset=offset)
            return {}
        if known is not None and (polled or monotonic() - known.at > _CAREFUL_SECONDS):
            del self.errors[place]
        return polled

    async def _poll(self, *places: TopicPartition, **options: Any) -> Polled:
        polled: Polled = await super().getmany(*places, **options)
        return polled
