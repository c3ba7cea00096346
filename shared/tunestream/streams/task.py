"""One task: a partition number of a group's inputs, its producer, its state, its transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import BaseModel

from tunestream.domain.effects import Effects, Refused
from tunestream.streams import metrics
from tunestream.streams.changelog import (
    POSITIONS_KEY,
    VERSIONED,
    Reached,
    decode_positions,
    encode_positions,
    keeps_positions,
    unwrap,
)
from tunestream.streams.client import MissingTopic, make_transactional_producer
from tunestream.streams.dead_letters import Letter, dead_letter, is_for_another, shortened
from tunestream.streams.deadlines import deadline
from tunestream.streams.decoding import broker_time, decode
from tunestream.streams.encoding import BatchSet, TransactionWriter
from tunestream.streams.gaps import Gap, Jumps
from tunestream.streams.handler import Handler, Inbound, TaskContext
from tunestream.streams.plan import Plan
from tunestream.streams.progress import Progress
from tunestream.streams.refusals import RefusalLog
from tunestream.streams.restoring import Snapshot, changelog_end, read_changelog
from tunestream.streams.starts import Starts
from tunestream.streams.watermarks import Watermarks
from tunestream.topics import CATALOGUE, dlq_of, topic

__all__ = ["Dormant", "Task", "TaskClosed", "WentBack"]

log = structlog.get_logger(__name__)
# Longer than any healthy step against a broker takes, shorter than the transaction time-out.
STEP_DEADLINE: Final = 40.0
# Records go from bytes to bytes a few at a time: their objects then stay in the processor's cache, which
# takes less CPU and memory than a pass over two thousand of them for each stage.
_SLICE: Final = 32
# State values that are taken back between two turns of the event loop: about 20 ms of work.
_AT_ONCE: Final = 1000


class TaskClosed(Exception):
    """The partition was given back, or its task is spent.

    What was asked for did not happen; after a fault it may have, and the restored state shows it.
    """


class WentBack(Exception):
    """The client gave records before the position, since that was not in the topic any more.

    The topic was truncated or created again. Opening the partition finds out where to go on.
    """

    def __init__(self, place: TopicPartition, position: int, offset: int) -> None:
        super().__init__(
            f"topic {place.topic}: the position was {position}, and the client went back to {offset}: "
            "the topic was truncated or created again"
        )


@dataclass(frozen=True, slots=True)
class Dormant:
    """The state of a partition that was given back: good while nobody else wrote."""

    handler: Handler
    logged: set[bytes]
    reached: Mapping[str, Reached]
    changelog_end: int | None


class Task:
    """Serial exactly-once processing of one partition number.

    Opening goes in numbered steps, and the order is what makes it safe:

    1. Start the transactional producer. This fences a predecessor and ends its open transaction, so
       that nothing read from here on can change under us.
    2. Read the committed offsets of the inputs.
    3. Restore the state from the changelog, to its end as of now (skipped when nothing moved since
       this process gave the partition back).
    4. Find where to begin: the larger of what was committed and what the state holds, unless the topic
       holds something else there by now.
    5. The caller seeks the inputs to :attr:`positions`.
    6. The caller resumes the inputs.

    A task that raised is spent: the caller closes it and opens a new one, which takes the same
    steps. That is the only recovery there is.

    Attributes:
        positions: of the next record of each input.
        progress: of the restore that is under way, else None.
        gaps: records that were found to be deleted when it was opened.

    Args:
        plan: of the service.
        partition: the partition number.
        on_fault: called when a transaction failed that the handler itself asked for.
    """

    def __init__(self, plan: Plan, partition: int, on_fault: Callable[[Task, Exception], None]) -> None:
        self.partition = partition
        self._on_fault = on_fault
        self.positions: dict[TopicPartition, int] = {}
        self.progress: Progress | None = None
        self.gaps: list[Gap] = []
        self.handler: Handler
        self._plan = plan
        self._places = {place.topic: place for place in plan.input_partitions(partition)}
        self._ours = {plan.kafka.topic(name) for name in plan.inputs if not topic(name).from_outside}
        self._names = {plan.kafka.topic(name): name for name in plan.inputs}
        self._reached: dict[str, Reached] = {}
        self._jumps = Jumps()
        self._lock = asyncio.Lock()
        self._open = False
        self._producer: AIOKafkaProducer | None = None
        self._writer: TransactionWriter
        self._accepted = {plan.kafka.topic(name): topic(name).bodies() for name in plan.inputs}
        self._letter_limits = {
            plan.kafka.topic(name): topic(dlq_of(name)).max_message_bytes for name in plan.inputs
        }
        self._log = log.bind(service=plan.service, partition=partition)
        self.refusals = RefusalLog(self._log)

    @property
    def busy(self) -> bool:
        """Whether a transaction is running."""
        return self._lock.locked()

    async def open(self, consumer: AIOKafkaConsumer, dormant: Dormant | None = None) -> None:
        """Take steps 1 to 4.

        Args:
            consumer: the group's consumer, which knows the committed offsets.
            dormant: the state that this process kept when it gave the partition back.

        Raises:
            KafkaError: when the broker refuses; TimeoutError: when it does not answer.
        """
        self._producer = make_transactional_producer(self._plan.kafka, f"{self._plan.group}-{self.partition}")
        async with deadline(STEP_DEADLINE, "starting the transactional producer"):
            await self._producer.start()
            self._writer = await self._new_writer(self._producer)
        async with deadline(STEP_DEADLINE, "reading the committed offsets"):
            committed = {place: await consumer.committed(place) for place in self._places.values()}
        await self._restore(dormant, committed)
        async with deadline(STEP_DEADLINE, "finding where the inputs stand"):
            await self._find_starts(consumer, committed)
        partitions = self._writer.partitions_of(self._plan.inputs[0])
        await self.handler.start(TaskContext(self.partition, self._transact_for_handler, partitions))
        self._open = True

    async def _new_writer(self, producer: AIOKafkaProducer) -> TransactionWriter:
        counts: dict[str, int] = {}
        cluster = await producer.client.fetch_all_metadata()
        for entry in CATALOGUE:
            known = cluster.partitions_for_topic(self._plan.kafka.topic(entry.name))
            if not known:
                raise MissingTopic(self._plan.kafka.topic(entry.name))
            counts[entry.name] = len(known)
        return TransactionWriter(
            self._plan.service, self.partition, self._plan.kafka.topic_prefix, counts, self._plan.changelog
        )

    async def _find_starts(
        self, consumer: AIOKafkaConsumer, committed: Mapping[TopicPartition, int | None]
    ) -> None:
        starts = Starts(self._plan.kafka, consumer, self._plan.service)
        for name, place in zip(self._plan.inputs, self._places.values(), strict=True):
            reached = self._reached.get(name)
            start = await starts.find(place, topic(name), committed[place], reached)
            self.positions[place] = start
            if reached is None or reached.offset != start:
                self._reached[name] = Reached(start)
        self.gaps = starts.gaps

    async def _restore(self, dormant: Dormant | None, committed: Mapping[TopicPartition, int | None]) -> None:
        if dormant is not None and await self._unchanged(dormant, committed):
            self.handler, self._writer.logged = dormant.handler, dormant.logged
            self._reached = dict(dormant.reached)
            return
        self.handler = self._plan.new_handler(self.partition)
        if self._plan.changelog is None:
            return
        started = time.monotonic()
        try:
            snapshot = await read_changelog(
                self._plan.kafka, self._plan.changelog, self.partition, self._restoring
            )
            await self._take_back(snapshot)
        finally:
            self.progress = None
        metrics.RESTORED.labels(self._plan.service, self.partition).inc(snapshot.read)
        self._log.info(
            "task.restored",
            live=len(snapshot.values),
            read=snapshot.read,
            seconds=round(time.monotonic() - started, 3),
        )

    def _restoring(self, progress: Progress) -> None:
        self.progress = progress

    async def _take_back(self, snapshot: Snapshot) -> None:
        self._writer.logged = set(snapshot.values)
        for number, (key, value) in enumerate(snapshot.values.items()):
            if key == POSITIONS_KEY:
                self._reached = decode_positions(unwrap(value))
            else:
                self.handler.restore(key, unwrap(value))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # heartbeats and the other partitions go on

    async def _unchanged(self, dormant: Dormant, committed: Mapping[TopicPartition, int | None]) -> bool:
        for name, place in zip(self._plan.inputs, self._places.values(), strict=True):
            if committed[place] not in (None, dormant.reached[name].offset):
                return False
        return dormant.changelog_end == await self._changelog_end()

    async def _changelog_end(self) -> int | None:
        if self._plan.changelog is None:
            return None
        return await changelog_end(
            self._plan.kafka, self._plan.kafka.topic(self._plan.changelog), self.partition
        )

    async def process(self, records: Sequence[ConsumerRecord]) -> None:
        """Handle records of this partition number in one transaction.

        Records before :attr:`positions` were handled already and are passed over; a task that is not
        open leaves all of them, since its opening will seek back to them.
        """
        now = time.monotonic()
        async with self._working():
            fresh = [record for record in records if self._is_next(record)] if self._open else []
            if not fresh:
                return
            effects, batches = Effects(), self._new_batches()
            refused: list[tuple[ConsumerRecord, Refused]] = []
            for start in range(0, len(fresh), _SLICE):
                refused += await self._handle(fresh[start : start + _SLICE], effects, now)
                await self._finish(effects, batches)
            reached = {record.topic: Reached.after(record.offset, record.timestamp) for record in fresh}
            await self._commit(batches, effects, refused, reached)
            metrics.RECORDS.labels(self._plan.service, self.partition).inc(len(fresh))

    def _is_next(self, record: ConsumerRecord) -> bool:
        return bool(record.offset >= self.positions[self._places[record.topic]])

    def check_order(self, records: Sequence[ConsumerRecord]) -> None:
        """Make sure that what the client gave follows on what was handled; note where it jumped ahead.

        Raises:
            WentBack: when it begins before :attr:`positions`.
        """
        if not self._open:
            return
        first: dict[str, int] = {}
        for record in records:
            first.setdefault(record.topic, record.offset)
        for name, offset in first.items():
            place = self._places[name]
            self._jumps.note(place, self.positions[place], offset)
            if offset < self.positions[place]:
                self._open = False
                raise WentBack(place, self.positions[place], offset)

    async def new_gaps(self, consumer: AIOKafkaConsumer) -> list[Gap]:
        """Return which records were deleted while it worked, before they were read, since the last call."""
        async with deadline(STEP_DEADLINE, "asking for the beginnings of the inputs"):
            return await self._jumps.gaps(consumer)

    async def _handle(
        self, records: Sequence[ConsumerRecord], effects: Effects, now: float
    ) -> list[tuple[ConsumerRecord, Refused]]:
        refused: list[tuple[ConsumerRecord, Refused]] = []
        events: list[Inbound | None] = []
        for record in records:
            event = None
            if is_for_another(record, self._plan.service):
                effects.counts["replayed_for_another"] += 1
            else:
                try:
                    accepted = self._accepted_by(record)
                    event = decode(record, accepted, of_services=record.topic in self._ours)
                except Refused as refusal:
                    refused.append((record, refusal))
            events.append(event)
        await self.handler.prepare([event for event in events if event is not None], now)
        outbound = effects.outbound
        for record, event in zip(records, events, strict=True):
            if event is None:
                self.handler.pass_over(broker_time(record), effects)
                continue
            before = len(outbound)
            try:
                self.handler.handle(event, effects)
            except Refused as refusal:
                refused.append((record, refusal))
            if event.envelope.passed_on:
                for output in outbound[before:]:
                    output.trace = event.envelope.passed_on
        return refused

    async def _finish(self, effects: Effects, batches: BatchSet) -> None:
        await self.handler.complete(effects)
        self._writer.outbound(batches, effects)

    def _new_batches(self) -> BatchSet:
        assert self._producer is not None
        return BatchSet(self._producer)

    def _accepted_by(self, record: ConsumerRecord) -> Mapping[str, type[BaseModel]]:
        return self._accepted[record.topic]

    async def transact(self, apply: Callable[[Effects], None]) -> None:
        """Run ``apply`` on fresh effects and commit them in a transaction of their own.

        Raises:
            TaskClosed: when the partition is not ours any more.
        """
        async with self._working():
            if not self._open:
                raise TaskClosed(f"partition {self.partition} of {self._plan.service} was given back")
            effects, batches = Effects(), self._new_batches()
            apply(effects)
            await self._finish(effects, batches)
            await self._commit(batches, effects, [], {})

    async def _transact_for_handler(self, apply: Callable[[Effects], None]) -> None:
        try:
            await self.transact(apply)
        except TaskClosed:
            raise
        except asyncio.CancelledError:
            self._on_fault(self, TaskClosed("a transaction was cancelled"))
            raise
        except Exception as error:
            self._on_fault(self, error)
            raise TaskClosed(f"partition {self.partition}: {error!r}") from error

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Hold the task; an error meanwhile leaves it spent."""
        async with self._lock:
            try:
                yield
            except BaseException:
                self._open = False
                raise

    def idle_due(self, now: float) -> bool:
        """Return whether the handler has something to do about silence."""
        return self._open and not self.busy and self.handler.idle_due(now)

    async def caught_up(self, consumer: AIOKafkaConsumer, watermarks: Watermarks) -> bool:
        """Return whether the consumer has passed every record of the inputs.

        Its position decides, not ours: it also passes the ends of transactions, which are no records. It does
        not pass a record of an open transaction, whose sender is not silent.
        """
        places = self._plan.input_partitions(self.partition)
        async with deadline(STEP_DEADLINE, "asking for the ends of the inputs"):
            ends = await watermarks.ends(places)
            return all([await consumer.position(place) >= end for place, end in ends.items()])

    async def idle(self, now: float) -> None:
        """Let the handler act on silence."""
        await self.transact(lambda effects: self.handler.on_idle(now, effects))

    async def _commit(
        self,
        batches: BatchSet,
        effects: Effects,
        refused: Sequence[tuple[ConsumerRecord, Refused]],
        came: Mapping[str, Reached],
    ) -> None:
        assert self._producer is not None
        number = self._plan.format()
        reached = self._reached | {self._names[full]: one for full, one in came.items()}
        if came and number >= VERSIONED and keeps_positions(self._plan.changelog):
            effects.put(POSITIONS_KEY, encode_positions(reached))
        self._writer.changes(batches, effects, number)
        for record, refusal in refused:
            self._writer.dead_letter(batches, record.topic, await self._letter(record, refusal))
        offsets = {self._places[full]: one.offset for full, one in came.items()}
        if batches or offsets:
            started = time.monotonic()
            await self._write(self._producer, batches, offsets)
            metrics.TRANSACTION_SECONDS.labels(self._plan.service).observe(time.monotonic() - started)
        self._writer.committed(effects)
        self._reached, self.positions = reached, self.positions | offsets
        self._count(effects, refused)

    async def _letter(self, record: ConsumerRecord, refusal: Refused) -> Letter:
        """Return the dead letter of a record, at most as large as its topic takes."""
        letter = dead_letter(record, refusal, self._plan.service)
        limit = self._letter_limits[record.topic]
        if letter.size <= limit:
            return letter
        keep = self._plan.keep
        uri = None if keep is None else await asyncio.to_thread(keep, letter.value or b"")
        return shortened(letter, limit, uri)

    async def _write(
        self, producer: AIOKafkaProducer, batches: BatchSet, offsets: Mapping[TopicPartition, int]
    ) -> None:
        async with deadline(STEP_DEADLINE, "a transaction"):
            await producer.begin_transaction()
            deliveries = [
                await producer.send_batch(batch, name, partition=partition)
                for name, partition, batch in batches
            ]
            # Each delivery is awaited: a failed batch does not make the commit fail. The offsets come
            # after them: adding them meanwhile makes the broker refuse the batches for 100 ms.
            await asyncio.gather(*deliveries)
            if offsets:
                await producer.send_offsets_to_transaction(offsets, self._plan.group)
            await producer.commit_transaction()

    def _count(self, effects: Effects, refused: Sequence[tuple[ConsumerRecord, Refused]]) -> None:
        for name, amount in effects.counts.items():
            metrics.DOMAIN_EVENTS.labels(self._plan.service, name).inc(amount)
        for record, refusal in refused:
            metrics.DEAD_LETTERS.labels(self._plan.service, refusal.code).inc()
            self.refusals.note(record, refusal)

    async def close(self, budget: float, *, keep: bool) -> Dormant | None:
        """Finish the running transaction and give the partition back, within ``budget`` seconds.

        Returns:
            The state, if asked to ``keep`` it and it is known to equal the changelog.
        """
        end = time.monotonic() + budget
        try:
            async with asyncio.timeout(budget), self._lock:
                was_open, self._open = self._open, False
        except TimeoutError:
            self._log.warning("task.transaction_abandoned", after_seconds=budget)
            was_open, self._open = False, False
        dormant = await self._to_dormant() if keep and was_open else None
        await self._stop_parts(max(end - time.monotonic(), _CLOSE_FLOOR))
        return dormant

    async def _to_dormant(self) -> Dormant | None:
        try:
            end = await self._changelog_end()
        except (KafkaError, OSError, TimeoutError) as error:  # without the end the state is restored again
            self._log.info("task.state_not_kept", reason=repr(error))
            return None
        return Dormant(self.handler, self._writer.logged, dict(self._reached), end)

    async def _stop_parts(self, budget: float) -> None:
        if hasattr(self, "handler"):
            await self.handler.stop()
        if self._producer is None:
            return
        try:
            async with asyncio.timeout(budget):
                await self._producer.stop()
        except TimeoutError:
            self._log.warning("task.producer_abandoned", after_seconds=budget)


# Closing a producer needs a round trip or two, also when the budget is used up.
_CLOSE_FLOOR: Final = 2.0
