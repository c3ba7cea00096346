"""Batches whose transactions run: the slow one holds up its own partition, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from operator import itemgetter
from time import monotonic
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from tunestream.streams.tasks.task import Task

__all__ = ["InHand"]

Batch = Coroutine[object, object, None]
log = structlog.get_logger(__name__)
# A transaction takes some 40 ms. One that takes longer than this waits for something outside.
PATIENCE: Final = 0.5


class InHand:
    """The batches of one member of a group, at most one a task.

    The poll loop waits for the batches of its poll for a moment, so that they commit side by side and the
    next ones are as large. Then it goes on: the partitions of those that are still at work are paused, and
    resumed when their batch is done. So the order within a partition stays.

    Args:
        places: the inputs of a task.
        is_open: whether a task is the open one of its partition.
    """

    def __init__(
        self, places: Callable[[Task], Iterable[TopicPartition]], is_open: Callable[[Task], bool]
    ) -> None:
        self._places = places
        self._is_open = is_open
        self._jobs: dict[asyncio.Task[None], tuple[Task, float]] = {}

    def __contains__(self, task: Task) -> bool:
        """Return whether a task has a batch in hand."""
        return any(task is at_work for at_work, _ in self._jobs.values())

    def oldest(self) -> tuple[int, float] | None:
        """Return the partition that has its batch in hand for the longest time, and for how long, seconds."""
        if not self._jobs:
            return None
        task, since = min(self._jobs.values(), key=itemgetter(1))
        return task.partition, monotonic() - since

    async def take(self, batches: Mapping[Task, Batch], consumer: AIOKafkaConsumer) -> None:
        """Work at the batches of a poll side by side; return when they are done, or the slow ones paused."""
        jobs = {}
        for task, batch in batches.items():
            job = asyncio.create_task(batch, name=f"batch {task.partition}")
            job.add_done_callback(partial(self._done, consumer))
            self._jobs[job], jobs[job] = (task, monotonic()), task
        if jobs:
            await asyncio.wait(jobs, timeout=PATIENCE)
        for job, task in jobs.items():
            if job in self._jobs and self._is_open(task):
                log.info("partition.slow", partition=task.partition)
                consumer.pause(*self._assigned(task, consumer))

    def _done(self, consumer: AIOKafkaConsumer, job: asyncio.Task[None]) -> None:
        task, _ = self._jobs.pop(job)
        if self._is_open(task) and task not in self:
            consumer.resume(*self._assigned(task, consumer))

    def _assigned(self, task: Task, consumer: AIOKafkaConsumer) -> set[TopicPartition]:
        assigned: frozenset[TopicPartition] = consumer.assignment()
        return set(self._places(task)) & assigned

    async def stop(self) -> None:
        """Give up what is still at work."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
