"""Record → normalised event, or a refusal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from tunestream.config.run.run import RunConfig
from tunestream.domain.collector.at_once import Written
from tunestream.domain.collector.core import Collector, Normalised
from tunestream.domain.collector.rules import CandidateRules, left_out
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.events.runs import FIRST_FORMAT
from tunestream.events.scores import EVERYWHERE
from tunestream.events.ttc import CandidateStep
from tunestream.streams.runs import RunDirectory
from tunestream.streams.tasks.handler import Handler, Inbound, TaskContext
from tunestream.topics import topic
from tunestream_services.ttc_collector.broker_clock import BrokerClock
from tunestream_services.ttc_collector.events import (
    Taken,
    check_key,
    is_everywhere,
    named_run,
    names_of,
    normalise,
)
from tunestream_services.ttc_collector.metrics import PARTITIONERS
from tunestream_services.ttc_collector.partitioners import partitioner_of

__all__ = ["CollectorHandler"]

# Room for the key and the headers beside a body.
_OVERHEAD_BYTES: Final = 16 * 1024
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
        self._rules: dict[tuple[str, str], tuple[RunConfig, CandidateRules]] = {}  # by run and digest
        self._dropped: Counter[str] = Counter()  # of the record in hand

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
        named = {named_run(record) for record in records}
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
        run_id, example_id = names_of(record)
        config_digest = self._runs.current_digest(run_id) or ""
        config, rules = self._rules.get((run_id, config_digest)) or self._read_rules(run_id, config_digest)
        if not is_everywhere(record):
            check_key(record, run_id, example_id)
        dropped = self._dropped
        dropped.clear()
        taken = normalise(record, config, rules, self._runs.format, dropped)
        if dropped:
            effects.counts["dropped_message_key"] += dropped.total()
        if taken is None:
            effects.counts["ignored_step"] += 1
            return
        self._emit(record, (run_id, example_id), taken, config, config_digest, effects)
        if taken.faults:
            raise left_out(taken.faults, taken.among)

    def _read_rules(self, run_id: str, config_digest: str) -> tuple[RunConfig, CandidateRules]:
        config = self._runs.current(run_id)
        if config is None:
            raise Refused(
                "unknown_run", f"run {run_id!r} was never applied; run `tunestream run apply` and replay"
            )
        found = self._rules[run_id, config_digest] = (config, CandidateRules.of(config))
        return found

    def _emit(
        self,
        record: Inbound,
        key: tuple[str, str],
        taken: Taken,
        config: RunConfig,
        config_digest: str,
        effects: Effects,
    ) -> None:
        for body, payload in [(body, _payload(body)) for body in taken.bodies]:
            if isinstance(body, Written):
                output = self._collector.emit(body.body, body.id, key, config, config_digest, effects)
            else:
                output = self._collector.take(body, config, config_digest, effects)
                output.payload = payload
            _mark(output, record)
        if taken.repeats:
            effects.counts["duplicate"] += taken.repeats
        self._count_partitioner(record, config.run_id)

    def _count_partitioner(self, record: Inbound, run_id: str) -> None:
        if is_everywhere(record):
            return
        assert record.key is not None
        partitioner = partitioner_of(record.key, record.partition, self._partitions)
        if partitioner is not None:
            self._partitioners[run_id, partitioner] += 1

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


def _payload(body: Normalised | Written) -> bytes:
    """Return a body as it is written.

    Raises:
        Refused: when it is larger than its topic takes.
    """
    payload = body.body.value if isinstance(body, Written) else body.to_json()
    if len(payload) > _LARGEST_BODY:
        what = "candidate" if isinstance(body, CandidateStep) else "event"
        raise Refused(
            "output_too_large",
            f"the {what} is {len(payload)} bytes, the limit is {_LARGEST_BODY}; shorten the "
            "prompt, the response or the metadata",
        )
    return payload


def _mark(output: Outbound, record: Inbound) -> None:
    """Give an output the extension attributes that it has of its record."""
    output.extensions["tsorigin"] = f"{record.partition}/{record.offset}"
    if is_everywhere(record):
        output.extensions[EVERYWHERE] = "1"


def _is_time(written: str) -> bool:
    return written.isascii() and written.isdigit() and len(written) <= _LONGEST_TIME
