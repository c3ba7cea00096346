"""What handling a record causes: the common vocabulary of the domain cores and the runtime.

A core is a small class that is restored from its changelog and then handles records one by one. It
never does I/O: everything that should happen is put down in an :class:`Effects`, which the runtime
commits in one transaction or drops whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from tunestream.events.base import Wire
from tunestream.events.cloudevents import Headers
from tunestream.events.registry import type_of

__all__ = ["Effects", "Outbound", "Refused", "Spliced"]

# A message may quote what was sent, of any size, and has to fit into a dead letter's header.
_LONGEST_MESSAGE: Final = 1000


class Refused(Exception):
    """A record is the sender's fault and goes to the dead letters.

    Attributes:
        code: the reason's stable name, e.g. ``late``.
        message: for people: names the field and the remedy; cut to a thousand characters.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message[:_LONGEST_MESSAGE]
        super().__init__(f"{code}: {self.message}")


class Spliced(NamedTuple):
    """A body that was put together of slices: its event type and its JSON."""

    type: str
    value: bytes


class Outbound(msgspec.Struct, gc=False):
    """One output record; the runtime encodes it when it commits.

    Attributes:
        topic: catalogue name, without prefix.
        body: the record's body, a model or what is its JSON already.
        id: deterministic CloudEvents id.
        time: stream time of the decision, milliseconds since the epoch.
        key: the parts of the record's key.
        extensions: CloudEvents extension attributes.
        partition: where it must lie; None for the key's own partition.
        payload: the serialised body, once somebody needed it; None until then.
        trace: trace context headers of the record that caused it.
    """

    topic: str
    body: Wire | Spliced
    id: str
    time: int
    key: tuple[str, ...]
    extensions: dict[str, str] = msgspec.field(default_factory=dict)
    partition: int | None = None
    payload: bytes | None = None
    trace: Headers = ()

    @property
    def type(self) -> str:
        """The event type."""
        return self.body.type if isinstance(self.body, Spliced) else type_of(self.body)

    def encoded(self) -> bytes:
        """Return the body as it is written."""
        return self.body.value if isinstance(self.body, Spliced) else self.payload or self.body.to_json()


@dataclass(slots=True)
class Effects:
    """Everything that one transaction should do beside committing its offsets.

    Attributes:
        outbound: output records in order.
        changes: the changelog's new values by key, None for a tombstone; the last change of a key
            counts, so a key is written at most once per transaction.
        counts: events worth a metric, by name.
    """

    outbound: list[Outbound] = field(default_factory=list)
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def put(self, key: bytes, value: bytes) -> None:
        """Set ``key`` in the state."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove ``key`` from the state."""
        self.changes[key] = None
