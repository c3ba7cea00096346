"""The exactly-once runtime: tasks opened, fed, retried and given back as the group assigns them."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.config.settings import ServiceSettings
from tunestream.streams.broker.deadlines import words
from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.offsets.gaps import Gaps
from tunestream.streams.runtime.health import Health, why_ended
from tunestream.streams.runtime.lifecycle import PARTITION_SHARE, Stage
from tunestream.streams.runtime.replicas import Replicas, ReplicaTaken
from tunestream.streams.runtime.silence import Silence
from tunestream.streams.tasks.in_hand import InHand
from tunestream.streams.tasks.membership import Membership
from tunestream.streams.tasks.partitions import Partitions
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.positions import Positions
from tunestream.streams.tasks.task import Task
from tunestream.streams.watch import metrics
from tunestream.streams.watch.measuring import Measures
from tunestream.streams.watch.missing import MissingInputs
from tunestream.streams.watch.watchdog import Sighting
from tunestream.streams.watch.watching import Watch

__all__ = ["Runtime", "Subscription"]

log = structlog.get_logger(__name__)
_IDLE_INTERVAL: Final = 0.25
_LAG_INTERVAL: Final = 2.0
_PING_DEADLINE: Final = 5.0


class Subscription(Protocol):
    """What the runtime needs of FastStream's subscriber."""

    consumer: GroupConsumer | None
    tasks: list[asyncio.Task[None]]


class Runtime(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs the tasks of one member of a consumer group.

    Invariants: a partition's records are handled only by its open task; a partition whose task is
    opening or in retry is paused, the others go on; the poll loop never waits for a retry.
    """

    def __init__(self, plan: Plan, settings: ServiceSettings, stage: Stage) -> None:
        self._plan = plan
        self._stage = stage
        self._settings = settings
        self._subscription: Subscription | None = None
        self._measures = Measures(plan.service, plan.counted)
        self.gaps = Gaps(plan.service)
        self._partitions = Partitions(plan, settings, lambda: self.consumer, self._measures, self.gaps)
        self._in_hand = InHand(
            lambda task: plan.input_partitions(task.partition), self._partitions.is_current
        )
        self._positions = Positions(self._partitions, self._in_hand)
        inputs = [plan.kafka.topic(name) for name in plan.inputs]
        self.membership = Membership(inputs)
        self._missing = MissingInputs(plan.service, inputs)
        self._loops: list[asyncio.Task[None]] = []
        self._watch = Watch(
            plan.service, plan.kafka, settings.stall_seconds, self._sight, self._open_unopened
        )
        self._assignment_fault: str | None = None
        self._replicas = Replicas(plan, settings)
        self._assigned_once = False
        self._watermarks = Watermarks(plan.kafka)
        self._silence = Silence(
            self._partitions, self._in_hand, self._measures, lambda: self.consumer, self._watermarks
        )
        self._log = log.bind(service=plan.service, replica=settings.replica)
        metrics.UNREADY.labels(plan.service).set_function(lambda: len(self._reasons()))

    def attach(self, subscription: Subscription) -> None:
        """Take the subscription whose records come to :meth:`consume`."""
        self._subscription = subscription

    @property
    def consumer(self) -> GroupConsumer:
        """The group's consumer.

        Raises:
            LookupError: before the subscription was started.
        """
        if self._subscription is None or self._subscription.consumer is None:
            raise LookupError("the subscription was not started")
        return self._subscription.consumer

    async def __aenter__(self) -> Self:
        for name in self._plan.retired:
            if name in os.environ:
                self._log.warning(
                    "setting.retired", name=name, remedy="unset it: it no longer means anything"
                )
        self._loops = [
            asyncio.create_task(self._run_idle(), name=f"idle {self._plan.service}"),
            asyncio.create_task(self._watch.run(), name=f"watchdog {self._plan.service}"),
            asyncio.create_task(self._run_lag(), name=f"lag {self._plan.service}"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish running transactions and close every task, without leaving the group."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._silence.stop()
        await self.membership.stop()
        await self._watermarks.close()
        await self._partitions.close(self._settings.shutdown_seconds * PARTITION_SHARE)
        await self._in_hand.stop()

    # -- assignment

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Pause what came and open it in the background.

        Pausing comes first and without an await before it: records may arrive from here on, and no
        heartbeat is sent before this returns. The client swallows what is raised here, so it is kept as a
        reason; the watchdog has opened what this left unopened.
        """
        self._assigned_once = True
        self._replicas.joined(self.consumer)
        self._take(list(assigned))

    def _take(self, places: list[TopicPartition]) -> None:
        try:
            self._open_assigned(places)
            self._assignment_fault = None
        except Exception as error:  # noqa: BLE001 # any error is shown
            self._assignment_fault = f"an assignment could not be taken: {words(error)}"
            self._log.error("assignment.failed", exc_info=error)

    def _open_assigned(self, places: list[TopicPartition]) -> None:
        self.consumer.pause(*(place for place in places if not self._partitions.is_open(place.partition)))
        self._partitions.keep_dormant(place.partition for place in places)
        self.membership.assigned(places)
        self.membership.rejoin_if_lacking(self.consumer)
        self._partitions.open(self.membership.whole)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish running transactions and give the partitions back; heartbeats go on meanwhile.

        Raises:
            CancelledError: when another process has our place; it ends the joining of the group.
        """
        partitions = {place.partition for place in revoked}
        self.membership.revoked()
        budget = self._settings.shutdown_seconds
        self._positions.forget(partitions)
        given = await asyncio.gather(
            *(self._partitions.give_back(number, budget, keep=True) for number in partitions),
            return_exceptions=True,
        )
        for error in given:
            if error is not None:
                self._log.error("partition.give_back_failed", exc_info=error)
        try:
            await self._replicas.check(self.consumer)
        except ReplicaTaken as taken:
            self._stage.end(taken)
            raise asyncio.CancelledError from taken

    # -- records

    async def consume(self, records: Sequence[ConsumerRecord]) -> None:
        """Handle one poll's records: one transaction per partition number, side by side.

        Nothing is awaited between the poll and here, so the tasks of this moment own what came. A task
        that opens from now on starts at its committed offset and must not see these records.
        """
        by_partition: dict[int, list[ConsumerRecord]] = defaultdict(list)
        for record in records:
            by_partition[record.partition].append(record)
        # A partition without a task was given back: its new owner reads these records again.
        tasks = self._partitions.tasks
        owned = {tasks[number]: part for number, part in by_partition.items() if number in tasks}
        batches = {task: self._process(task, part) for task, part in owned.items()}
        await self._in_hand.take(batches, self.consumer)

    def put_back(self, place: TopicPartition | None) -> None:
        """Put back what a failed poll of a partition has moved; of all partitions when it is None."""
        metrics.POLL_FAILURES.labels(self._plan.service).inc()
        self._positions.put_back(self.consumer, place)

    async def _process(self, task: Task, records: Sequence[ConsumerRecord]) -> None:
        try:
            task.check_order(records)
            await task.process(records)
            self._partitions.note_success(task.partition)
        except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
            await self._partitions.recover(task, error)

    # -- silence and gauges

    async def _run_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_INTERVAL)
            if self._assigned_once:
                self.gaps.report(self.consumer.passed_gaps())
            self._silence.look(time.monotonic())

    async def _run_lag(self) -> None:
        while True:
            await asyncio.sleep(_LAG_INTERVAL)
            try:
                if self._assigned_once:
                    self._missing.look(self.consumer)
                if self._partitions.tasks:
                    self._positions.note_handled(self.consumer)
                await self._measures.lag(self.consumer, dict(self._positions.handled))
            except Exception as error:  # noqa: BLE001 # a gauge that stands still ends no service
                self._log.warning("lag.unknown", reason=words(error), exc_info=error)

    # -- the watchdog

    def _sight(self) -> list[Sighting]:
        """Return the assigned partitions as they are now, without their ends."""
        if self._subscription is None or self._subscription.consumer is None:
            return []
        return self._positions.sightings(self.consumer, self._waits)

    def _poll_reasons(self) -> list[str]:
        consumer = None if self._subscription is None else self._subscription.consumer
        failed = None if consumer is None else consumer.failure
        return [] if failed is None else [f"a poll failed: {words(failed.error)}"]

    def _waits(self, number: int) -> str | None:
        """Return what a partition that is not open, or has a batch in hand, waits for; None for nothing."""
        if (task := self._partitions.tasks.get(number)) is not None and task in self._in_hand:
            return "its batch is in hand"
        if self._partitions.opens(number):
            return self._partitions.faults.get(number, "it is being opened")
        waiting = number not in self.membership.whole and self._assignment_fault is None
        return "it waits for its other inputs" if waiting else None

    def _open_unopened(self, number: int) -> None:
        """Take the assignment again when it left a partition unopened, or its opening ended."""
        if self._partitions.is_left_out(number):
            self._log.warning("assignment.taken_again", partition=number)
            self._take(list(self.consumer.assignment()))

    # -- health and the end

    def live(self) -> Health:
        """Whether the poll loop goes on; a service that waits for the broker at its start is live."""
        if self._stage.failure is not None:
            return Health(ok=False, reasons=(f"it has ended: {self._stage.failure}",))
        number, stuck = self._in_hand.oldest() or (0, 0.0)
        if stuck > self._settings.progress_deadline_seconds:
            reason = f"partition {number}: a batch has been in hand for {stuck:.0f} s"
            return Health(ok=False, reasons=(reason,))
        if dead := self._watch.dead():
            return Health(ok=False, reasons=tuple(dead))
        ended = self._ended_loops()
        return Health(ok=not ended, reasons=tuple(ended))

    def _ended_loops(self) -> list[str]:
        loops = list(self._loops)
        if self._subscription is not None:
            loops += self._subscription.tasks
            consumer = self._subscription.consumer
            if consumer is not None and consumer.membership is not None:
                loops.append(consumer.membership)
        return [why_ended(loop) for loop in loops if loop.done()]

    def warnings(self) -> list[str]:
        """Return what is wrong without making the service unready."""
        return [
            *self.gaps.warnings(),
            *self._partitions.moves.warnings(),
            *self._replicas.warnings(),
            *self.membership.warnings(),
            *self._lines(Task.warnings),
        ]

    def _lines(self, find: Callable[[Task], list[str]]) -> list[str]:
        return [
            f"partition {task.partition}: {line}"
            for task in self._partitions.at_work()
            for line in find(task)
        ]

    async def ready(self) -> Health:
        """Whether the broker answers, partitions were assigned, and all of them are open."""
        reasons = self._reasons()
        if self._stage.waiting is None:
            try:
                async with asyncio.timeout(_PING_DEADLINE):
                    await self.consumer.topics()
            except (KafkaError, TimeoutError, LookupError) as error:
                reasons.append(f"broker not reachable: {words(error)}")
        return Health(ok=not reasons, reasons=tuple(reasons))

    def _reasons(self) -> list[str]:
        """Return why the service is not ready, as far as that shows without a question to the broker."""
        if self._stage.waiting is not None:
            return [self._stage.waiting]
        reasons = list(self._partitions.faults.values())
        if not self._assigned_once:
            reasons.append("no assignment yet")
        if self._assignment_fault is not None:
            reasons.append(self._assignment_fault)
        reasons += self._ended_loops()
        reasons += self._poll_reasons()
        reasons += self._watch.reasons()
        reasons += self.membership.reasons()
        reasons += self._missing.reasons()
        reasons += self._lines(lambda task: task.handler.reasons())
        reasons += self._partitions.reasons()
        return reasons
