"""Record → normalised event, or a refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.core import Collector, Normalised
from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.effects import Effects, Refused
from tunestream.events.cloudevents import format_time
from tunestream.events.keys import encode_key
from tunestream.events.nat import IntermediateStep
from tunestream.events.ttc import TTCCandidate, TTCEpisode, TTCExampleEnd, TTCTurnEnd
from tunestream.streams.decoding import original_time
from tunestream.streams.handler import Handler, Inbound, TaskContext
from tunestream.streams.runs import RunDirectory
from tunestream.topics import topic

__all__ = ["CollectorHandler"]

_NATIVE: Final = (TTCCandidate, TTCTurnEnd, TTCExampleEnd, TTCEpisode)
# Room for the key and the headers beside a body.
_OVERHEAD_BYTES: Final = 16 * 1024
_LONGEST_NAME: Final = 512
_LONGEST_TIME: Final = 15
_LARGEST_BODY: Final = topic("ttc.candidates").max_message_bytes - _OVERHEAD_BYTES


class CollectorHandler(Handler):
    """One partition of ``ttc.events``."""

    def __init__(self, collector: Collector, runs: RunDirectory) -> None:
        self._collector = collector
        self._runs = runs
        self._now = 0.0

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._collector.restore(key, value)

    @override
    async def start(self, context: TaskContext) -> None:
        del context
        self._collector.resume(time.monotonic())

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Read the runs again when a record names one that is not known."""
        self._now = now
        named = {_named_run(record) for record in records}
        if any(run is not None and self._runs.current(run) is None for run in named):
            await self._runs.refresh_since(now)

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Normalise one event and emit it under its run's configuration."""
        run_id, example_id = _names(record)
        config = self._runs.current(run_id)
        if config is None:
            raise Refused(
                "unknown_run", f"run {run_id!r} was never applied; run `tunestream run apply` and replay"
            )
        _check_key(record, run_id, example_id)
        body = _normalise(record, config, run_id, example_id)
        if body is None:
            effects.counts["ignored_step"] += 1
            return
        self._emit(record, body, config, effects)

    def _emit(self, record: Inbound, body: Normalised, config: RunConfig, effects: Effects) -> None:
        payload = body.to_json()
        if len(payload) > _LARGEST_BODY:
            raise Refused(
                "output_too_large",
                f"the candidate is {len(payload)} bytes, the limit is {_LARGEST_BODY}; shorten the "
                "prompt, the response or the metadata",
            )
        envelope = record.envelope
        moment = self._collector.clamp(envelope.time, _log_time(record))
        replayed_from = original_time(envelope)
        config_digest = self._runs.current_digest(body.run_id)
        assert config_digest is not None
        output = self._collector.take(body, config, config_digest, moment, self._now, effects)
        output.payload = payload
        output.extensions["tsorigin"] = f"{record.partition}/{record.offset}"
        if replayed_from is not None:
            output.extensions["tsoriginaltime"] = format_time(replayed_from)

    @override
    async def complete(self, effects: Effects) -> None:
        """Put down where the clocks are."""
        self._collector.settle(effects)

    @override
    def idle_due(self, now: float) -> bool:
        return self._collector.silent(now)

    @override
    def on_idle(self, now: float, effects: Effects) -> None:
        self._collector.tick(now, effects)

    @override
    def gauges(self) -> dict[str, float]:
        return {"waiting_runs": self._collector.waiting_runs}


def _named_run(record: Inbound) -> str | None:
    body = record.body
    if isinstance(body, IntermediateStep):
        return record.envelope.extensions.get("tsrun") or None
    return getattr(body, "run_id", None)


def _names(record: Inbound) -> tuple[str, str]:
    body = record.body
    if not isinstance(body, IntermediateStep):
        assert isinstance(body, _NATIVE)
        return body.run_id, body.example_id
    extensions = record.envelope.extensions
    for name in ("tsrun", "tsexample"):
        value = extensions.get(name)
        if not value:
            raise Refused(
                "schema.missing",
                f"header ce_{name} is missing; a NAT step has neither run nor example, so send them as "
                "ce_tsrun and ce_tsexample",
            )
        if len(value) > _LONGEST_NAME:
            raise Refused(
                "schema.bounds",
                f"header ce_{name} has {len(value)} characters; send at most {_LONGEST_NAME}",
            )
    return extensions["tsrun"], extensions["tsexample"]


def _check_key(record: Inbound, run_id: str, example_id: str) -> None:
    expected = encode_key(run_id, example_id)
    if record.key != expected:
        raise Refused(
            "wrong_key",
            f"the record's key is {record.key!r}, the body's is {expected!r}; "
            "a turn whose records have different keys is torn apart",
        )


def _normalise(record: Inbound, config: RunConfig, run_id: str, example_id: str) -> Normalised | None:
    body = record.body
    builder = config.trajectory_builder
    if isinstance(body, IntermediateStep):
        name = builder.ttc_step_name if isinstance(builder, DPOTrajectoryBuilderConfig) else ""
        return normalise_nat(body, run_id=run_id, example_id=example_id, ttc_step_name=name)
    assert isinstance(body, _NATIVE)
    return normalise_native(body)


def _log_time(record: Inbound) -> int:
    """Return when the broker took the event, ms; a replay carries the first time."""
    taken = record.time
    written = record.envelope.extensions.get("tslogtime")
    if written is None:
        return taken
    if not (written.isascii() and written.isdigit() and len(written) <= _LONGEST_TIME):
        raise Refused(
            "schema.value", f"header ce_tslogtime is {written!r}; write milliseconds since the epoch"
        )
    return min(int(written), taken)
