"""Record → normalised event, or a refusal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.collector.core import Collector, Normalised
from tunestream.domain.collector.nat_steps import normalise_nat
from tunestream.domain.collector.normaliser import normalise_native
from tunestream.domain.collector.prompts import as_format, has_more
from tunestream.domain.effects import Effects, Refused
from tunestream.events.keys import encode_key
from tunestream.events.nat import IntermediateStep
from tunestream.events.runs import FIRST_FORMAT
from tunestream.events.ttc import CandidateStep, TTCCandidate, TTCEpisode, TTCExampleEnd, TTCTurnEnd
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream.topics import topic
from tunestream_services.ttc_collector.broker_clock import BrokerClock
from tunestream_services.ttc_collector.metrics import PARTITIONERS
from tunestream_services.ttc_collector.partitioners import partitioner_of

__all__ = ["CollectorHandler"]

_NATIVE: Final = (TTCCandidate, TTCTurnEnd, TTCExampleEnd, TTCEpisode)
# Room for the key and the headers beside a body.
_OVERHEAD_BYTES: Final = 16 * 1024
_LONGEST_NAME: Final = 512
_LONGEST_TIME: Final = 15  # digits
_LOG_TIME: Final = "tslogtime"
_LARGEST_BODY: Final = topic("ttc.candidates").max_message_bytes - _OVERHEAD_BYTES


class CollectorHandler(Handler):
    """One partition of ``ttc.events``.

    Args:
        collector: the partition's core.
        runs: the runs that exist.
        replay: whether events may carry the time at which the broker took them first.
    """

    def __init__(self, collector: Collector, runs: RunDirectory, *, replay: bool = False) -> None:
        self._collector = collector
        self._runs = runs
        self._replay = replay
        self._broker = BrokerClock()
        self._partitions = 1
        self._partitioners: Counter[tuple[str, str]] = Counter()  # of the transaction in hand
        self._now = 0.0

    @override
    def restore(self, key: bytes, value: bytes) -> None:
        self._collector.restore(key, value)

    @override
    async def start(self, context: TaskContext) -> None:
        self._partitions = context.partitions
        self._collector.resume(time.monotonic())

    @override
    async def prepare(self, records: Sequence[Inbound], now: float) -> None:
        """Read the runs again when a record names one that is not known."""
        self._now = now
        self._broker.compare(records, now, time.time_ns() // 1_000_000)
        named = {_named_run(record) for record in records}
        if any(run is not None and self._runs.current(run) is None for run in named):
            await self._runs.refresh_since(now)

    @override
    def handle(self, record: Inbound, effects: Effects) -> None:
        """Move stream time on, then normalise the event and emit it under its run's configuration."""
        self._collector.advance(self._time(record, effects), self._now)
        try:
            self._take(record, effects)
        finally:
            self._collector.keep_pace(effects)

    def _time(self, record: Inbound, effects: Effects) -> int | None:
        """Return when the broker took the event first, ms; None when the record does not show it."""
        taken = record.time if record.by_broker else None
        written = record.envelope.extensions.get(_LOG_TIME)
        if written is None:
            return taken
        if not self._replay or not _is_time(written):
            effects.counts["log_time_ignored"] += 1
            return taken
        return int(written) if taken is None else min(int(written), taken)

    def _take(self, record: Inbound, effects: Effects) -> None:
        run_id, example_id = _names(record)
        config = self._runs.current(run_id)
        if config is None:
            raise Refused(
                "unknown_run", f"run {run_id!r} was never applied; run `tunestream run apply` and replay"
            )
        _check_key(record, run_id, example_id)
        dropped: Counter[str] = Counter()
        body = _normalise(record, config, run_id, example_id, dropped)
        if isinstance(body, CandidateStep) and has_more(body.prompt):
            body = as_format(body, self._runs.format, dropped)
        if dropped:
            effects.counts["dropped_message_key"] += dropped.total()
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
        config_digest = self._runs.current_digest(body.run_id)
        assert config_digest is not None
        output = self._collector.take(body, config, config_digest, effects)
        output.payload = payload
        output.extensions["tsorigin"] = f"{record.partition}/{record.offset}"
        assert record.key is not None
        partitioner = partitioner_of(record.key, record.partition, self._partitions)
        if partitioner is not None:
            self._partitioners[body.run_id, partitioner] += 1

    @override
    def pass_over(self, time: int | None, effects: Effects) -> None:
        """Move stream time on: also what cannot be read is no silence."""
        self._collector.advance(time, self._now)
        self._collector.keep_pace(effects)

    @override
    async def complete(self, effects: Effects) -> None:
        """Put down where the clocks are."""
        self._collector.settle(effects, by_run=self._runs.format == FIRST_FORMAT)

    @override
    def committed(self) -> None:
        """Count the events by partitioner; an event whose transaction was given up is handled again."""
        for (run_id, partitioner), count in self._partitioners.items():
            PARTITIONERS.labels(run_id, partitioner).inc(count)
        self._partitioners.clear()

    @override
    def idle_due(self, now: float) -> bool:
        return self._collector.silent(now)

    @override
    def on_idle(self, now: float, effects: Effects) -> None:
        self._collector.tick(now, time.time_ns() // 1_000_000, effects)
        self._broker.caught_up(now)

    @override
    def gauges(self) -> dict[str, float]:
        return {
            "waiting_runs": self._collector.waiting_runs,
            "stream_time_seconds": self._collector.time / 1000,
        }

    @override
    def reasons(self) -> list[str]:
        return self._broker.reasons()

    @override
    def warnings(self) -> list[str]:
        return self._broker.warnings()


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


def _normalise(
    record: Inbound, config: RunConfig, run_id: str, example_id: str, dropped: Counter[str]
) -> Normalised | None:
    body = record.body
    builder = config.trajectory_builder
    if isinstance(body, IntermediateStep):
        name = builder.ttc_step_name if isinstance(builder, DPOTrajectoryBuilderConfig) else ""
        return normalise_nat(body, run_id=run_id, example_id=example_id, ttc_step_name=name, dropped=dropped)
    assert isinstance(body, _NATIVE)
    return normalise_native(body, dropped)


def _is_time(written: str) -> bool:
    return written.isascii() and written.isdigit() and len(written) <= _LONGEST_TIME
