"""Who owns the runs of which partition, while partitions come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from tunestream.domain.effects import Effects
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.training import JobRecord
from tunestream.streams.tasks.task import TaskClosed

__all__ = ["Lost", "Owner", "Owners"]

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class Owner(Protocol):
    """Who owns the runs of one partition."""

    ledger: JobLedger

    async def transact(self, step: Callable[[Effects], Result]) -> Result:
        """Take a step of the ledger in a transaction of its own.

        Raises:
            TaskClosed: when the partition was given back.
        """


class Lost(Exception):
    """An attempt may not commit any more: its partition is gone, or its job was ended or taken over."""


class Owners:
    """The owners of this replica.

    Args:
        rejoin_seconds: how long a step waits for a partition that is away.
    """

    def __init__(self, rejoin_seconds: float) -> None:
        self._rejoin_seconds = rejoin_seconds
        self._owners: dict[int, Owner] = {}
        self._changed = asyncio.Event()

    def register(self, partition: int, owner: Owner) -> None:
        """Take up the runs of a partition."""
        self._owners[partition] = owner
        self.wake()

    def unregister(self, partition: int, owner: Owner) -> None:
        """Let go of the runs of a partition, unless a new owner has it already."""
        if self._owners.get(partition) is owner:
            del self._owners[partition]
            self.wake()

    def wake(self) -> None:
        """Wake everybody who waits for :meth:`changed`: an owner or a job has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def changed(self) -> Coroutine[Any, Any, bool]:
        """Return what ends with the next :meth:`wake` from now on, also when it is awaited later."""
        return self._changed.wait()

    def jobs(self) -> Iterator[tuple[int, JobRecord]]:
        """Return every job with its partition."""
        for partition, owner in self._owners.items():
            for job in owner.ledger.jobs():
                yield partition, job

    def find(self, partition: int) -> Owner | None:
        """Return a partition's owner, None while it is away."""
        return self._owners.get(partition)

    def get(self, partition: int) -> Owner:
        """Return a partition's owner.

        Raises:
            Lost: when it is away.
        """
        owner = self._owners.get(partition)
        if owner is None:
            raise Lost(f"partition {partition} was given back")
        return owner

    async def step(self, partition: int, step: Callable[[Owner, Effects], Result]) -> Result:
        """Take a step, waiting for the partition while it is away.

        Raises:
            Lost: when it does not come back in time.
        """
        while True:
            owner = await self._returned(partition)
            try:
                return await owner.transact(partial(step, owner))
            except TaskClosed as closed:
                log.info("partition.away", partition=partition, reason=str(closed))
                self.unregister(partition, owner)

    async def _returned(self, partition: int) -> Owner:
        try:
            async with asyncio.timeout(self._rejoin_seconds):
                while partition not in self._owners:
                    await self.changed()
        except TimeoutError:
            raise Lost(f"partition {partition} did not come back in {self._rejoin_seconds:g} s") from None
        return self._owners[partition]
