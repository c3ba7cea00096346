"""Records and runs as handlers see them, without a broker."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aiokafka import ConsumerRecord
from typing_extensions import override

from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Foreign, Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.views.base import views_of
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Inbound

__all__ = ["KnownRuns", "consumed", "inbound"]


class KnownRuns(RunDirectory):
    """The runs that a test gives, the last configuration of each run as its current one."""

    def __init__(self, *configs: RunConfig) -> None:
        super().__init__(KafkaSettings())
        self.apply(*configs)

    def apply(self, *configs: RunConfig) -> None:
        """Know these configurations and no others."""
        self._known = {(config.run_id, config.digest): config for config in configs}
        self._latest = {config.run_id: config for config in configs}

    @override
    async def refresh(self, deadline: float = 0.0) -> None:
        del deadline
        self.refreshes += 1
        self._whole_at = time.monotonic()

    @override
    def current(self, run_id: str) -> RunConfig | None:
        return self._latest.get(run_id)

    @override
    def current_digest(self, run_id: str) -> str | None:
        config = self._latest.get(run_id)
        return None if config is None else config.digest

    @override
    def config(self, run_id: str, digest: str) -> RunConfig:
        return self._known[run_id, digest]

    @override
    def has(self, run_id: str, digest: str) -> bool:
        return (run_id, digest) in self._known


def inbound(
    body: Wire | Foreign,
    key: bytes,
    *,
    ce_time: int | None = 1_000,
    time: int = 1_000,
    offset: int = 0,
    **extensions: str,
) -> Inbound:
    """Return a record of partition 3, as the runtime decodes it."""
    envelope = Envelope(
        id="1", type=type_of(body), source="/tests", time=ce_time, extensions=dict(extensions)
    )
    view = views_of([envelope.type]).get(envelope.type)
    decoded = body if view is None else view.of(body)
    return Inbound(key, body.model_dump_json().encode(), time, 3, offset, envelope, decoded)


def consumed(
    topic: str,
    value: bytes | None,
    *,
    partition: int = 3,
    offset: int = 0,
    key: bytes | None = b"k",
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> ConsumerRecord:
    """Return a record as the client gives it."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=0,
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=tuple(headers),
    )
