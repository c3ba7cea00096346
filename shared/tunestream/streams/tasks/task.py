"""One task: a partition number of a group's inputs, its producer, its state, its transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tunestream.domain.effects import Effects
from tunestream.streams.changelog.progress import Progress
from tunestream.streams.fetch.resets import Gap
from tunestream.streams.offsets.moves import Move
from tunestream.streams.tasks.handler import Handler, TaskContext
from tunestream.streams.tasks.handling import handle
from tunestream.streams.tasks.inputs import Inputs, WentBack
from tunestream.streams.tasks.opening import Opening, end_of_changelog
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.state import Dormant, State
from tunestream.streams.tasks.transaction import Transaction, Transactions
from tunestream.streams.watch import metrics
from tunestream.streams.watch.refusals import RefusalLog

__all__ = ["Task", "TaskClosed"]

log = structlog.get_logger(__name__)
# Records go from bytes to bytes a few at a time: their objects then stay in the processor's cache, which
# takes less CPU and memory than a pass over two thousand of them for each stage.
_SLICE: Final = 32
# Closing a producer needs a round trip or two, also when the budget is used up.
_CLOSE_FLOOR: Final = 2.0


class TaskClosed(Exception):
    """The partition was given back, or its task is spent.

    What was asked for did not happen; after a fault it may have, and the restored state shows it.
    """


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
        inputs: this partition number of each.
        progress: of the restore that is under way, else None.
        gaps: records that were found to be deleted when it was opened.
        moves: inputs that were found to go on elsewhere than at their group's offset.

    Args:
        plan: of the service.
        partition: the partition number.
        on_fault: called when a transaction failed that the handler itself asked for.
    """

    def __init__(self, plan: Plan, partition: int, on_fault: Callable[[Task, Exception], None]) -> None:
        self.partition = partition
        self._on_fault = on_fault
        self.progress: Progress | None = None
        self.gaps: list[Gap] = []
        self.moves: list[Move] = []
        self._plan = plan
        self.inputs = Inputs(plan, partition)
        self._transactions: Transactions | None = None
        self._state: State | None = None
        self._lock = asyncio.Lock()
        self._open = False
        self._log = log.bind(service=plan.service, partition=partition)
        self.refusals = RefusalLog(self._log)

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The offset of the next record of each input; empty until they are found."""
        return self.inputs.positions

    @property
    def handler(self) -> Handler:
        """The handler, from the moment that the state begins to come back."""
        assert self._state is not None
        return self._state.handler

    def warnings(self) -> list[str]:
        """Return what is wrong with the state and what the handler finds, a line each."""
        assert self._state is not None
        return self.handler.warnings() + [
            f"the latest record of {key!r} in {self._plan.changelog} was passed over: {reason}"
            for key, reason in self._state.skipped.items()
        ]

    async def open(self, consumer: AIOKafkaConsumer, dormant: Dormant | None = None) -> None:
        """Take steps 1 to 4.

        Args:
            consumer: the group's consumer, which knows the committed offsets.
            dormant: the state that this process kept when it gave the partition back.

        Raises:
            KafkaError: when the broker refuses; TimeoutError: when it does not answer.
        """
        self._transactions = Transactions(self._plan, self.partition, self.inputs)
        await self._transactions.start()
        opening = Opening(self._plan, self.partition, self.inputs, consumer)
        await opening.read_committed()
        if dormant is not None and await opening.is_unchanged(dormant):
            self._state = dormant.state
        else:
            self._state = State(self._plan.new_handler(self.partition))
            await self._restore(opening, self._state)
        self._state.reached, found = await opening.find_starts(self._state.reached)
        self.gaps, self.moves = found.gaps, found.moves
        self.inputs.positions = self.inputs.offsets(self._state.reached)
        context = TaskContext(self.partition, self._transact_for_handler, self._transactions.partitions)
        await self.handler.start(context)
        self._open = True

    async def _restore(self, opening: Opening, state: State) -> None:
        try:
            await opening.restore(state, self._restoring)
        finally:
            self.progress = None

    def _restoring(self, progress: Progress) -> None:
        self.progress = progress

    async def process(self, records: Sequence[ConsumerRecord]) -> None:
        """Handle records of this partition number in one transaction.

        Records before :attr:`positions` were handled already and are passed over; a task that is not
        open leaves all of them, since its opening will seek back to them.
        """
        now = time.monotonic()
        async with self._working():
            fresh = self.inputs.fresh(records) if self._open else []
            if not fresh:
                return
            work = self._transactions_of_open().new()
            for start in range(0, len(fresh), _SLICE):
                await handle(fresh[start : start + _SLICE], self.handler, self.inputs, work, now)
                await self._finish(work)
            work.reached = self.inputs.reached(fresh)
            await self._commit(work)
            metrics.RECORDS.labels(self._plan.service, self.partition).inc(len(fresh))

    def check_order(self, records: Sequence[ConsumerRecord]) -> None:
        """Make sure that what the client gave follows on what was handled.

        Raises:
            WentBack: when it begins before :attr:`positions`.
        """
        if not self._open:
            return
        try:
            self.inputs.check_order(records)
        except WentBack:
            self._open = False
            raise

    async def _finish(self, work: Transaction) -> None:
        await self.handler.complete(work.effects)
        self._transactions_of_open().encode_outputs(work)

    def _transactions_of_open(self) -> Transactions:
        assert self._transactions is not None
        return self._transactions

    async def transact(self, apply: Callable[[Effects], None]) -> None:
        """Run ``apply`` on fresh effects and commit them in a transaction of their own.

        Raises:
            TaskClosed: when the partition is not ours any more.
        """
        async with self._working():
            if not self._open:
                raise TaskClosed(f"partition {self.partition} of {self._plan.service} was given back")
            work = self._transactions_of_open().new()
            apply(work.effects)
            await self._finish(work)
            await self._commit(work)

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
        return self._open and not self._lock.locked() and self.handler.idle_due(now)

    async def idle(self, now: float) -> None:
        """Let the handler act on silence."""
        await self.transact(lambda effects: self.handler.on_idle(now, effects))

    async def _commit(self, work: Transaction) -> None:
        assert self._state is not None
        await self._transactions_of_open().commit(work, self._state)
        self.inputs.move(work.reached)
        self.handler.committed()
        for record, refusal in work.refused:
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
            end = await end_of_changelog(self._plan, self.partition)
        except (KafkaError, OSError, TimeoutError) as error:  # without the end the state is restored again
            self._log.info("task.state_not_kept", reason=repr(error))
            return None
        assert self._state is not None
        return Dormant(self._state, end)

    async def _stop_parts(self, budget: float) -> None:
        if self._state is not None:
            await self._state.handler.stop()
        if self._transactions is None:
            return
        try:
            async with asyncio.timeout(budget):
                await self._transactions.stop()
        except TimeoutError:
            self._log.warning("task.producer_abandoned", after_seconds=budget)
