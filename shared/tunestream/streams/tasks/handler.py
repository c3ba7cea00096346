"""What a service gives to the runtime: how one partition's records become effects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from pydantic import BaseModel

from tunestream.domain.effects import Effects
from tunestream.events.cloudevents import Envelope
from tunestream.events.views.base import View

__all__ = ["Handler", "Inbound", "TaskContext", "Transact"]

Transact = Callable[[Callable[[Effects], None]], Awaitable[None]]


class Inbound(msgspec.Struct, gc=False):
    """One record of an input, decoded.

    Attributes:
        key: the record's key as it came.
        value: the record's body as it came, never empty.
        time: when the broker took it, or its producer's time, ms.
        partition: of its topic.
        offset: in its partition.
        envelope: the CloudEvents attributes of its headers.
        body: the decoded value, a view where the event type has one.
        by_broker: whether ``time`` is the broker's: the topic's timestamps are LogAppendTime.
    """

    key: bytes | None
    value: bytes
    time: int
    partition: int
    offset: int
    envelope: Envelope
    body: BaseModel | View
    by_broker: bool = True


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a handler may know of its task.

    Attributes:
        partition: the partition number of all inputs and of the changelog.
        transact: runs a function on fresh effects in a transaction of its own, between batches of
            records; for internal events, which carry no offset. Raises
            :class:`~tunestream.streams.tasks.task.TaskClosed` when the partition is away; the runtime then
            restores it and calls ``start`` of its next handler.
        partitions: how many partitions the first input has.
    """

    partition: int
    transact: Transact
    partitions: int = 1


class Handler:
    """One partition's part of a service.

    The runtime makes a new handler whenever it restores the state, so a handler never has to undo
    anything: after a fault it is dropped with everything it holds.

    Order of calls: ``restore`` for each live changelog record, ``start``, then any number of
    ``prepare`` → ``handle`` for each record → ``complete``, with ``on_idle`` between transactions,
    and ``stop`` at the end. A transaction takes its records a few at a time, so it may have several of
    these rounds; ``committed`` follows once it is written.
    """

    def restore(self, key: bytes, value: bytes) -> None:
        """Take one live record of the changelog; the order is arbitrary."""
        raise NotImplementedError(f"{type(self).__name__} keeps no state")

    async def start(self, context: TaskContext) -> None:
        """Begin work: the state is whole. Called again when the partition comes back unchanged."""

    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Do what waits (reading a table again) before the records are handled.

        Args:
            records: decoded records that are handled next.
            now: monotonic clock when the transaction began, seconds; all its records were read before.
        """

    def handle(self, record: Inbound, effects: Effects) -> None:
        """Turn one record into effects.

        Raises:
            Refused: the record is the sender's fault and goes to the dead letters.
        """
        raise NotImplementedError

    def pass_over(self, time: int | None, effects: Effects) -> None:
        """Take note of a record that is refused before it can be read, in its place between the others.

        Args:
            time: when the broker took it, ms; None when the record does not show it.
            effects: as for :meth:`handle`.
        """

    async def complete(self, effects: Effects) -> None:
        """Do what has to be durable before the transaction commits (storing a dataset)."""

    def committed(self) -> None:
        """Take note that all effects so far are written: what is counted outside of them counts now."""

    def idle_due(self, now: float) -> bool:
        """Return whether :meth:`on_idle` has something to do; ``now`` is monotonic, in seconds."""
        del now
        return False

    def on_idle(self, now: float, effects: Effects) -> None:
        """Act on silence; called only when every record of the inputs was handled."""

    def gauges(self) -> dict[str, float]:
        """Return what this partition's state looks like, by metric name."""
        return {}

    def reasons(self) -> list[str]:
        """Return why this partition cannot do its work as it should, a line each, with the remedy."""
        return []

    def warnings(self) -> list[str]:
        """Return what is wrong without stopping this partition, a line each, with the remedy."""
        return []

    async def stop(self) -> None:
        """End work: the partition is given back. All that it started ends here."""
