"""Inputs that the broker does not have: they were deleted, or are being created."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.watch import metrics

__all__ = ["MissingInputs"]

log = structlog.get_logger(__name__)
_ASK_SECONDS: Final = 5.0


class MissingInputs:
    """Shows which inputs are missing, and has the client look for them.

    A group that is joined while a topic is missing assigns nothing of it. The client joins again when it
    sees the topic, which it would look for every five minutes.

    Args:
        service: name, for metrics and logs.
        names: full names of the inputs.
    """

    def __init__(self, service: str, names: Iterable[str]) -> None:
        self._service = service
        self._names = tuple(names)
        self._missing: tuple[str, ...] = ()
        for name in self._names:
            metrics.INPUT_MISSING.labels(service, name).set(0)

    async def look(self, consumer: GroupConsumer) -> None:
        """Look which inputs are missing, by what the client knows, and have it ask the broker for them."""
        before = self._missing
        self._missing = tuple(name for name in self._names if not consumer.partitions_for_topic(name))
        for name in self._names:
            metrics.INPUT_MISSING.labels(self._service, name).set(name in self._missing)
        for name in sorted({*self._missing} - {*before}):
            log.error("input.missing", service=self._service, topic=name)
        if self._missing:
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    await consumer.refresh_topics()
            except (KafkaError, OSError, TimeoutError):
                return  # readiness shows that the broker is away

    def reasons(self) -> list[str]:
        """Return a line for each input that is missing."""
        return [
            f"topic {name} is not on the broker; nothing of it is read until it is there: "
            "tunestream topics apply"
            for name in self._missing
        ]
