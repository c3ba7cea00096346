"""What the group assigned to this member: which partition numbers are whole, and what if none can be."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

__all__ = ["Membership"]

log = structlog.get_logger(__name__)
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0


class Membership:
    """The assignment of one member, number by number.

    A task owns a number of all inputs: were it opened with some of them, it would fence the task of the
    member that has the others. A static member whose subscription gained a topic gets its old assignment
    back, for ever, unless it leaves the group and joins as a new member; this is done here.

    The first input decides who has a number. While other members run a release that reads it alone, they
    handle their numbers, and what this member has of the other inputs of these is nothing to wait for.

    Args:
        inputs: full names of the topics that the member subscribed to, the first one first.

    Attributes:
        whole: numbers of which every input was assigned.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._first = inputs[0]
        self._inputs = frozenset(inputs)
        self._partial: dict[int, list[str]] = {}
        self._lacking: list[str] = []
        self._rejoins = 0
        self._rejoining: asyncio.Task[None] | None = None
        self.whole: set[int] = set()

    def assigned(self, places: Iterable[TopicPartition]) -> None:
        """Take a new assignment."""
        topics: dict[int, set[str]] = defaultdict(set)
        for place in places:
            topics[place.partition].add(place.topic)
        missing = {number: sorted(self._inputs - found) for number, found in topics.items()}
        self.whole = {number for number, names in missing.items() if not names}
        self._partial = {number: names for number, names in missing.items() if names}
        found = frozenset[str]().union(*topics.values())
        self._lacking = sorted(self._inputs - found) if self._first in found else []
        if not self._lacking:
            self._rejoins = 0

    def revoked(self) -> None:
        """Forget the assignment; another one follows."""
        self.whole, self._partial, self._lacking = set(), {}, []

    def reasons(self) -> list[str]:
        """Return why numbers wait, a line each."""
        return [
            f"partition {number}: waits for {', '.join(names)}, which the group assigned to another member "
            "or to none; all members of a service have to run the same release"
            for number, names in sorted(self._partial.items())
            if self._first not in names
        ]

    def warnings(self) -> list[str]:
        """Return which numbers other members handle, though this member has another input of the number."""
        return [
            f"partition {number}: another member has {self._first}, and this one another input of it; all "
            "members of a service have to run the same release"
            for number, names in sorted(self._partial.items())
            if self._first in names
        ]

    def rejoin_if_lacking(self, consumer: AIOKafkaConsumer) -> None:
        """Have the member leave and join again, soon, when it got nothing of an input."""
        if self._lacking and self._rejoining is None:
            self._rejoining = asyncio.create_task(self._rejoin(consumer), name="rejoin")

    async def _rejoin(self, consumer: AIOKafkaConsumer) -> None:
        await asyncio.sleep(min(_FIRST_WAIT * 2.0**self._rejoins, _LONGEST_WAIT))
        self._rejoining = None
        if not self._lacking:
            return
        self._rejoins += 1
        log.warning("group.joining_anew", lacking=self._lacking, attempt=self._rejoins)
        await _leave(consumer)

    async def stop(self) -> None:
        """End what was begun."""
        if self._rejoining is not None:
            self._rejoining.cancel()
            await asyncio.gather(self._rejoining, return_exceptions=True)


async def _leave(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and join it as a new member, which the client never does by itself as a static one."""
    coordinator = consumer._coordinator  # noqa: SLF001 - the client has no other way to leave a group
    try:
        await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))  # noqa: SLF001
    except KafkaError as error:
        log.warning("group.leave_failed", reason=repr(error))
    coordinator.reset_generation()
