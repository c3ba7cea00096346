"""The exactly-once runtime: tasks opened, fed, retried and given back as the group assigns them."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import structlog
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.config.settings import ServiceSettings
from tunestream.streams import metrics
from tunestream.streams.deadlines import words
from tunestream.streams.gaps import Gaps
from tunestream.streams.group_consumer import GroupConsumer
from tunestream.streams.handler import Handler
from tunestream.streams.in_hand import InHand
from tunestream.streams.lifecycle import PARTITION_SHARE, Stage
from tunestream.streams.measuring import Measures
from tunestream.streams.membership import Membership
from tunestream.streams.plan import Plan
from tunestream.streams.replicas import Replicas, ReplicaTaken
from tunestream.streams.state import Dormant
from tunestream.streams.task import Task, TaskClosed
from tunestream.streams.watchdog import Place, Sighting
from tunestream.streams.watching import Watch
from tunestream.streams.watermarks import Watermarks

__all__ = ["Health", "Runtime", "Subscription"]

log = structlog.get_logger(__name__)
_IDLE_INTERVAL: Final = 0.25
_LAG_INTERVAL: Final = 2.0
# A restore after a fault is worth a reason of its own when it takes longer, seconds.
_SHORT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a service works, and if not, why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


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
        self._tasks: dict[int, Task] = {}
        self._openings: dict[int, asyncio.Task[None]] = {}
        self._dormant: dict[int, Dormant] = {}
        self._recoveries: set[asyncio.Task[None]] = set()
        self._faults: dict[int, str] = {}
        self._attempts: dict[int, int] = defaultdict(int)
        self._in_hand = InHand(lambda task: plan.input_partitions(task.partition), self._is_current)
        self._measures = Measures(plan.service, plan.counted)
        self._handled: dict[TopicPartition, int] = {}
        self.gaps = Gaps(plan.service)
        self.membership = Membership(plan.kafka.topic(name) for name in plan.inputs)
        self._loops: list[asyncio.Task[None]] = []
        self._watch = Watch(
            plan.service, plan.kafka, settings.stall_seconds, self._sight, self._open_unopened
        )
        self._assignment_fault: str | None = None
        self._replicas = Replicas(plan.kafka, plan.group, settings)
        self._assigned_once = False
        self._watermarks = Watermarks(plan.kafka)
        self._log = log.bind(service=plan.service, replica=settings.replica)

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
        await self.membership.stop()
        await self._watermarks.__aexit__(None, None, None)
        numbers = set(self._tasks) | set(self._openings)
        budget = self._settings.shutdown_seconds * PARTITION_SHARE
        await asyncio.gather(*(self._give_back(number, budget, keep=False) for number in numbers))
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
        self.consumer.pause(*(place for place in places if not self._is_open(place.partition)))
        partitions = {place.partition for place in places}
        self._dormant = {number: kept for number, kept in self._dormant.items() if number in partitions}
        self.membership.assigned(places)
        self.membership.rejoin_if_lacking(self.consumer)
        for number in sorted(self.membership.whole):
            if number not in self._tasks and number not in self._openings:
                self._start_opening(number, delay=0.0)

    def _is_open(self, number: int) -> bool:
        return number in self._tasks and number not in self._openings

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish running transactions and give the partitions back; heartbeats go on meanwhile.

        Raises:
            CancelledError: when another process has our place; it ends the joining of the group.
        """
        partitions = {place.partition for place in revoked}
        self.membership.revoked()
        budget = self._settings.shutdown_seconds
        given = await asyncio.gather(
            *(self._give_back(number, budget, keep=True) for number in partitions), return_exceptions=True
        )
        for error in given:
            if error is not None:
                self._log.error("partition.give_back_failed", exc_info=error)
        try:
            await self._replicas.check(self.consumer)
        except ReplicaTaken as taken:
            self._stage.end(taken)
            raise asyncio.CancelledError from taken

    async def _give_back(self, number: int, budget: float, *, keep: bool) -> None:
        opening = self._openings.pop(number, None)
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        self._faults.pop(number, None)
        self._attempts.pop(number, None)
        for place in self._plan.input_partitions(number):
            self._handled.pop(place, None)
        self._measures.forget(number)
        task = self._tasks.pop(number, None)
        if task is None:
            return
        kept = await task.close(budget, keep=keep)
        if kept is not None:
            self._dormant[number] = kept

    # -- opening and retry

    def _start_opening(self, number: int, delay: float) -> None:
        self._measures.begin(number)
        self._openings[number] = asyncio.create_task(
            self._open(number, delay), name=f"open {self._plan.service}-{number}"
        )

    async def _open(self, number: int, delay: float) -> None:
        """Open a partition, as often as it takes, and let its records flow."""
        while True:
            await asyncio.sleep(delay)
            task = Task(self._plan, number, self._on_fault)
            self._tasks[number] = task
            try:
                await task.open(self.consumer, self._dormant.pop(number, None))
                self._let_flow(task)
                break
            except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
                await task.close(budget=0.0, keep=False)
                delay = self._fault(number, error)
        self._faults.pop(number, None)
        self._openings.pop(number, None)
        self._log.info("partition.open", partition=number)

    def _let_flow(self, task: Task) -> None:
        """Have the records of an open task come, from where it stands."""
        self.gaps.watch(task.positions)
        self.gaps.report(task.gaps)
        for place, position in task.positions.items():
            self.consumer.seek(place, position)
        self.consumer.resume(*task.positions)

    def _fault(self, number: int, error: Exception) -> float:
        """Note a fault of this service and return how long to wait before the next try, in seconds."""
        self._attempts[number] += 1
        attempt = self._attempts[number]
        delay = min(self._settings.retry_min_seconds * 2.0 ** (attempt - 1), self._settings.retry_max_seconds)
        self._faults[number] = f"partition {number}: {words(error)}"
        metrics.ABORTS.labels(self._plan.service, type(error).__name__).inc()
        self._log.error(
            "partition.fault", partition=number, attempt=attempt, retry_in_seconds=delay, exc_info=error
        )
        return delay

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
        owned = {self._tasks[number]: part for number, part in by_partition.items() if number in self._tasks}
        batches = {task: self._process(task, part) for task, part in owned.items()}
        await self._in_hand.take(batches, self.consumer)

    def _is_current(self, task: Task) -> bool:
        return self._tasks.get(task.partition) is task and self._is_open(task.partition)

    def put_back(self, place: TopicPartition | None) -> None:
        """Put back what a failed poll has moved: each partition to the position of its task.

        A task with a batch in hand is behind its records; its partition is paused, and it goes on after them.

        Args:
            place: the partition that was polled, None for all of them.
        """
        assigned = self.consumer.positions()
        for task in self._tasks.values():
            if task in self._in_hand:
                continue
            for where, position in task.positions.items():
                if place in (None, where) and assigned.get(where, position) != position:
                    self.consumer.seek(where, position)

    async def _process(self, task: Task, records: Sequence[ConsumerRecord]) -> None:
        number = task.partition
        try:
            task.check_order(records)
            await task.process(records)
            self._attempts.pop(number, None)
        except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
            await self._recover(number, task, error)

    def _on_fault(self, task: Task, error: Exception) -> None:
        recovery = asyncio.create_task(self._recover(task.partition, task, error))
        self._recoveries.add(recovery)
        recovery.add_done_callback(self._recoveries.discard)

    async def _recover(self, number: int, task: Task, error: Exception) -> None:
        """Pause a partition whose task is spent and open it again after a while."""
        if self._tasks.get(number) is not task or number in self._openings:
            return
        self.consumer.pause(*self._plan.input_partitions(number))
        delay = self._fault(number, error)
        self._start_opening(number, delay)
        await task.close(budget=0.0, keep=False)

    # -- silence and gauges

    async def _run_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_INTERVAL)
            now = time.monotonic()
            ready = [(number, task) for number, task in self._tasks.items() if number not in self._openings]
            await asyncio.gather(*(self._idle_one(number, task, now) for number, task in ready))

    async def _idle_one(self, number: int, task: Task, now: float) -> None:
        self._measures.state(number, task.handler.gauges())
        task.refusals.report()
        try:
            self.gaps.report(await task.inputs.new_gaps(self.consumer))
            if (
                task.idle_due(now)
                and await task.inputs.caught_up(self.consumer, self._watermarks)
                and task not in self._in_hand
            ):
                await task.idle(now)
        except TaskClosed:
            return
        except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
            await self._recover(number, task, error)

    async def _run_lag(self) -> None:
        while True:
            await asyncio.sleep(_LAG_INTERVAL)
            try:
                self._note_handled()
                await self._measures.lag(self.consumer, dict(self._handled))
            except Exception as error:  # noqa: BLE001 # a gauge that stands still ends no service
                self._log.warning("lag.unknown", reason=words(error), exc_info=error)

    def _note_handled(self) -> None:
        """Note how far each input is handled; what is not known now stays as it was."""
        read = self.consumer.positions() if self._tasks else {}
        for task in self._tasks.values():
            # Behind the last record there may be ends of transactions, which the client has passed.
            idle = self._is_current(task) and task not in self._in_hand
            for place, position in task.positions.items():
                passed = read.get(place) if idle else None
                self._handled[place] = max(position, passed or 0)

    # -- the watchdog

    def _sight(self) -> list[Sighting]:
        """Return the assigned partitions as they are now, without their ends."""
        if self._subscription is None or self._subscription.consumer is None:
            return []
        errors = self.consumer.errors
        return [
            Sighting(
                Place(*place),
                opened=self._is_open(place.partition),
                position=self._standing_at(place, position),
                stable=None,
                high=None,
                waits=self._waits(place.partition),
                fault=words(errors[place].error) if place in errors else None,
            )
            for place, position in self.consumer.positions().items()
        ]

    def _standing_at(self, place: TopicPartition, position: int | None) -> int | None:
        """Return where a partition stands: the client's position is behind the records that are in hand."""
        task = self._tasks.get(place.partition)
        return position if task is None or task not in self._in_hand else task.positions.get(place, position)

    def _poll_reasons(self) -> list[str]:
        consumer = None if self._subscription is None else self._subscription.consumer
        failed = None if consumer is None else consumer.failure
        return [] if failed is None else [f"a poll failed: {words(failed.error)}"]

    def _waits(self, number: int) -> str | None:
        """Return what a partition that is not open, or has a batch in hand, waits for; None for nothing."""
        if (task := self._tasks.get(number)) is not None and task in self._in_hand:
            return "its batch is in hand"
        opening = self._openings.get(number)
        if opening is not None and not opening.done():
            return self._faults.get(number, "it is being opened")
        waiting = number not in self.membership.whole and self._assignment_fault is None
        return "it waits for its other inputs" if waiting else None

    def _open_unopened(self, number: int) -> None:
        """Take the assignment again when it left a partition unopened, or its opening ended."""
        opening = self._openings.get(number)
        if opening is not None and opening.done():
            del self._openings[number]
            self._tasks.pop(number, None)
        if number not in self._tasks and number not in self._openings:
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
        loops = [*self._loops]
        loops += self._subscription.tasks if self._subscription is not None else []
        if ended := [loop for loop in loops if loop.done()]:
            return Health(ok=False, reasons=tuple(map(_why_ended, ended)))
        return Health(ok=True)

    def warnings(self) -> list[str]:
        """Return what is wrong without making the service unready: gaps, and what the handlers find."""
        return [*self.gaps.warnings(), *self._lines(lambda handler: handler.warnings())]

    def _lines(self, find: Callable[[Handler], list[str]]) -> list[str]:
        open_tasks = (task for number, task in sorted(self._tasks.items()) if number not in self._openings)
        return [f"partition {task.partition}: {line}" for task in open_tasks for line in find(task.handler)]

    async def ready(self) -> Health:
        """Whether the broker answers, partitions were assigned, and all of them are open."""
        if self._stage.waiting is not None:
            return Health(ok=False, reasons=(self._stage.waiting,))
        reasons = list(self._faults.values())
        if not self._assigned_once:
            reasons.append("no assignment yet")
        if self._assignment_fault is not None:
            reasons.append(self._assignment_fault)
        reasons += self._poll_reasons()
        reasons += self._watch.reasons()
        reasons += self.membership.reasons()
        reasons += self._lines(lambda handler: handler.reasons())
        reasons += [reason for number in self._openings if (reason := self._opening_reason(number))]
        try:
            async with asyncio.timeout(_PING_DEADLINE):
                await self.consumer.topics()
        except (KafkaError, TimeoutError, LookupError) as error:
            reasons.append(f"broker not reachable: {words(error)}")
        return Health(ok=not reasons, reasons=tuple(reasons))

    def _opening_reason(self, number: int) -> str | None:
        task, failed = self._tasks.get(number), number in self._faults
        if task is not None and task.progress is not None and (not failed or task.progress.took > _SHORT):
            return f"partition {number}: {task.progress}"
        return None if failed else f"partition {number}: opening"


def _why_ended(loop: asyncio.Task[None]) -> str:
    error = None if loop.cancelled() else loop.exception()
    return f"loop {loop.get_name()} ended" + (f": {words(error)}" if isinstance(error, Exception) else "")


_PING_DEADLINE: Final = 5.0
