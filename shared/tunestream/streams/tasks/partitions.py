"""The partitions of one member of a group: opened, opened again after a fault, and given back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from tunestream.config.settings import ServiceSettings
from tunestream.streams.broker.deadlines import words
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.offsets.gaps import Gaps
from tunestream.streams.offsets.moves import Moves
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.state import Dormant
from tunestream.streams.tasks.task import Task
from tunestream.streams.watch import metrics
from tunestream.streams.watch.measuring import Measures

__all__ = ["Partitions"]

log = structlog.get_logger(__name__)
# A restore after a fault is worth a reason of its own when it takes longer, seconds.
_SHORT: Final = 2.0


class Partitions:
    """The tasks of one member, by partition number.

    A partition whose task is opening or in retry is paused, the others go on.

    Args:
        plan: of the service.
        settings: of this replica.
        consumer: returns the group's consumer.
        measures: shows the series of a partition.
        gaps: takes those that are found.

    Attributes:
        tasks: those that are open or opening.
        openings: the work of those that are opening, or wait to.
        faults: why a partition was not opened, or is opened again.
        moves: inputs that did not go on where their group's offset stands.
    """

    def __init__(
        self,
        plan: Plan,
        settings: ServiceSettings,
        consumer: Callable[[], GroupConsumer],
        measures: Measures,
        gaps: Gaps,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._consumer = consumer
        self._measures = measures
        self._gaps = gaps
        self.moves = Moves(plan.service)
        self.tasks: dict[int, Task] = {}
        self.openings: dict[int, asyncio.Task[None]] = {}
        self.faults: dict[int, str] = {}
        self._dormant: dict[int, Dormant] = {}
        self._attempts: dict[int, int] = defaultdict(int)
        self._recoveries: set[asyncio.Task[None]] = set()
        self._log = log.bind(service=plan.service, replica=settings.replica)

    def is_open(self, number: int) -> bool:
        """Return whether a partition is at work."""
        return number in self.tasks and number not in self.openings

    def is_current(self, task: Task) -> bool:
        """Return whether a task is the open one of its partition."""
        return self.tasks.get(task.partition) is task and self.is_open(task.partition)

    def at_work(self) -> list[Task]:
        """Return the tasks that are open, in the order of their partitions."""
        return [task for number, task in sorted(self.tasks.items()) if number not in self.openings]

    def opens(self, number: int) -> bool:
        """Return whether something opens a partition."""
        opening = self.openings.get(number)
        return opening is not None and not opening.done()

    def open(self, numbers: Iterable[int]) -> None:
        """Open partitions in the background, as far as they are not."""
        for number in sorted(numbers):
            if number not in self.tasks and number not in self.openings:
                self._start_opening(number, delay=0.0)

    def keep_dormant(self, numbers: Iterable[int]) -> None:
        """Drop the state of partitions that were given back, but for these."""
        kept = set(numbers)
        self._dormant = {number: one for number, one in self._dormant.items() if number in kept}

    def is_left_out(self, number: int) -> bool:
        """Return whether nothing opens a partition; an opening that has ended is forgotten."""
        opening = self.openings.get(number)
        if opening is not None and opening.done():
            del self.openings[number]
            self.tasks.pop(number, None)
        return number not in self.tasks and number not in self.openings

    def note_success(self, number: int) -> None:
        """Count the faults of a partition from the beginning again."""
        self._attempts.pop(number, None)

    async def close(self, budget: float) -> None:
        """Give all of them back, within ``budget`` seconds."""
        numbers = set(self.tasks) | set(self.openings)
        await asyncio.gather(*(self.give_back(number, budget, keep=False) for number in numbers))

    async def give_back(self, number: int, budget: float, *, keep: bool) -> None:
        """Finish the running transaction of a partition, within ``budget`` seconds, and close its task.

        Its state is kept, if asked to ``keep`` it, for the case that the partition comes back.
        """
        opening = self.openings.pop(number, None)
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        self.faults.pop(number, None)
        self._attempts.pop(number, None)
        self._measures.forget(number)
        task = self.tasks.pop(number, None)
        if task is None:
            return
        kept = await task.close(budget, keep=keep)
        if kept is not None:
            self._dormant[number] = kept

    def _start_opening(self, number: int, delay: float) -> None:
        self._measures.begin(number)
        self.openings[number] = asyncio.create_task(
            self._open(number, delay), name=f"open {self._plan.service}-{number}"
        )

    async def _open(self, number: int, delay: float) -> None:
        """Open a partition, as often as it takes, and let its records flow."""
        while True:
            await asyncio.sleep(delay)
            task = Task(self._plan, number, self._on_fault)
            self.tasks[number] = task
            try:
                await task.open(self._consumer(), self._dormant.pop(number, None))
                self._let_flow(task)
                break
            except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
                await task.close(budget=0.0, keep=False)
                delay = self._fault(number, error)
        self.faults.pop(number, None)
        self.openings.pop(number, None)
        self._log.info("partition.open", partition=number)

    def _let_flow(self, task: Task) -> None:
        """Have the records of an open task come, from where it stands."""
        self._gaps.watch(task.positions)
        self._gaps.report(task.gaps)
        self._measures.state(task.partition, task.handler.gauges())
        self.moves.watch(task.positions)
        self.moves.report(task.moves)
        for place, position in task.positions.items():
            self._consumer().seek(place, position)
        self._consumer().resume(*task.positions)

    def _fault(self, number: int, error: Exception) -> float:
        """Note a fault of this service and return how long to wait before the next try, in seconds."""
        self._attempts[number] += 1
        attempt = self._attempts[number]
        delay = min(self._settings.retry_min_seconds * 2.0 ** (attempt - 1), self._settings.retry_max_seconds)
        self.faults[number] = f"partition {number}: {words(error)}"
        metrics.ABORTS.labels(self._plan.service, type(error).__name__).inc()
        self._log.error(
            "partition.fault", partition=number, attempt=attempt, retry_in_seconds=delay, exc_info=error
        )
        return delay

    def _on_fault(self, task: Task, error: Exception) -> None:
        recovery = asyncio.create_task(self.recover(task, error))
        self._recoveries.add(recovery)
        recovery.add_done_callback(self._recoveries.discard)

    async def recover(self, task: Task, error: Exception) -> None:
        """Pause a partition whose task is spent and open it again after a while."""
        number = task.partition
        if self.tasks.get(number) is not task or number in self.openings:
            return
        self._consumer().pause(*self._plan.input_partitions(number))
        delay = self._fault(number, error)
        self._start_opening(number, delay)
        await task.close(budget=0.0, keep=False)

    def reasons(self) -> list[str]:
        """Return why partitions are opening, a line each; faults have lines of their own."""
        return [reason for number in self.openings if (reason := self._opening_reason(number))]

    def _opening_reason(self, number: int) -> str | None:
        task, failed = self.tasks.get(number), number in self.faults
        if task is not None and task.progress is not None and (not failed or task.progress.took > _SHORT):
            return f"partition {number}: {task.progress}"
        return None if failed else f"partition {number}: opening"
