"""The collector without a broker, from the bytes of records on."""

from __future__ import annotations

from tests.helpers.inbound import KnownRuns, consumed
from tunestream.config.run.run import RunConfig
from tunestream.domain.collector.core import Collector
from tunestream.domain.effects import Effects, Refused
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.runs import FORMAT, FormatRecord
from tunestream.events.views.base import views_of
from tunestream.streams.tasks.decoding import decode
from tunestream.topics import topic
from tunestream_services.ttc_collector.handler import CollectorHandler

__all__ = ["Collecting"]

_BODIES = topic("ttc.events").bodies()
_VIEWS = views_of(_BODIES)


class _Runs(KnownRuns):
    written = FORMAT

    @property
    def _format(self) -> FormatRecord:
        return FormatRecord(format=self.written)


class Collecting:
    """A collector's handler and what it has done.

    Args:
        configs: of the runs.
        number: the format that the deployment writes.
        views: whether hot types are read by their views.
    """

    def __init__(self, *configs: RunConfig, number: int = FORMAT, views: bool = True) -> None:
        runs = _Runs(*configs)
        runs.written = number
        self.handler = CollectorHandler(Collector(3), runs)
        self.effects = Effects()
        self.refused: list[Refused] = []
        self._views = _VIEWS if views else {}

    def take(
        self, ce_type: str, value: bytes, key: bytes | None = None, **extensions: str
    ) -> list[tuple[str, bytes]]:
        """Take a record and return what it gave: event types and bodies."""
        before = len(self.effects.outbound)
        envelope = Envelope("1", ce_type, "/tests", 1_000, dict(extensions))
        record = consumed(
            "ttc.events",
            value,
            key=encode_key("r", "e") if key is None else key,
            headers=envelope.to_headers(),
        )
        try:
            self.handler.handle(decode(record, _BODIES, views=self._views), self.effects)
        except Refused as refused:
            self.refused.append(refused)
        return [(one.type, one.encoded()) for one in self.effects.outbound[before:]]
