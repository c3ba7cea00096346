"""What happens between records: silence is acted upon, and the state of each partition is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from tunestream.streams.broker.watermarks import Watermarks
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.tasks.in_hand import InHand
from tunestream.streams.tasks.partitions import Partitions
from tunestream.streams.tasks.task import Task, TaskClosed
from tunestream.streams.watch.measuring import Measures

__all__ = ["Silence"]


class Silence:
    """Looks at the open tasks of one member of a group.

    Each task has a look of its own: one that waits for its coordinator holds up no other, and is looked at
    again when it is done.

    Args:
        partitions: of the member.
        in_hand: their batches.
        measures: shows the state of a partition.
        consumer: returns the group's consumer.
        watermarks: knows where the inputs end.
    """

    def __init__(
        self,
        partitions: Partitions,
        in_hand: InHand,
        measures: Measures,
        consumer: Callable[[], GroupConsumer],
        watermarks: Watermarks,
    ) -> None:
        self._partitions = partitions
        self._in_hand = in_hand
        self._measures = measures
        self._consumer = consumer
        self._watermarks = watermarks
        self._looks: dict[Task, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None

    def look(self, now: float) -> None:
        """Begin to look at every open task but those that are still looked at; ``now`` is monotonic, seconds.

        Raises:
            Exception: what an earlier look could not make a fault of its partition.
        """
        if self._failure is not None:
            raise self._failure
        for task in self._partitions.at_work():
            if task not in self._looks:
                self._looks[task] = asyncio.create_task(self._one(task, now), name=f"look {task.partition}")
                self._looks[task].add_done_callback(partial(self._done, task))

    def _done(self, task: Task, look: asyncio.Task[None]) -> None:
        del self._looks[task]
        if not look.cancelled():
            self._failure = self._failure or look.exception()

    async def _one(self, task: Task, now: float) -> None:
        try:
            self._measures.state(task.partition, task.handler.gauges())
            task.refusals.report()
            if (
                task.idle_due(now)
                and await task.inputs.caught_up(self._consumer(), self._watermarks)
                and task not in self._in_hand
            ):
                await task.idle(now)
        except TaskClosed:
            return
        except Exception as error:  # noqa: BLE001 # every fault here is retried, visibly
            await self._partitions.recover(task, error)

    async def stop(self) -> None:
        """Give up what is still under way."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
