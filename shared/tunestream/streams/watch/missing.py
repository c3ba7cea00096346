"""Inputs that the broker does not have: they were deleted, or are being created."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer

from tunestream.streams.watch import metrics

__all__ = ["MissingInputs", "missing_input"]

log = structlog.get_logger(__name__)


class MissingInputs:
    """Shows which inputs are missing.

    A group that is joined while a topic is missing assigns nothing of it. The client joins again when it
    sees the topic.

    Args:
        service: name, for metrics and logs.
        names: full names of the inputs.
    """

    def __init__(self, service: str, names: Iterable[str]) -> None:
        self._service = service
        self._names = tuple(names)
        self._missing: tuple[str, ...] = ()
        for name in self._names:
            metrics.INPUT_MISSING.labels(service, name)

    def look(self, consumer: AIOKafkaConsumer) -> None:
        """Look which inputs are missing, by what the client learnt last."""
        before = self._missing
        self._missing = tuple(name for name in self._names if not consumer.partitions_for_topic(name))
        for name in self._names:
            metrics.INPUT_MISSING.labels(self._service, name).set(name in self._missing)
        for name in self._missing:
            if name not in before:
                log.error("input.missing", service=self._service, topic=name)

    def reasons(self) -> list[str]:
        """Return a line for each input that is missing."""
        return [missing_input(name) for name in self._missing]


def missing_input(name: str) -> str:
    """Return why a service waits whose input ``name`` is missing, with the remedy."""
    return (
        f"topic {name} is not on the broker; nothing of it is read until it is there: tunestream topics apply"
    )
