"""What a killed process left open is ended first of all, before its successor is even imported.

Services write to partitions that several tasks share: all groups of a run lie in one. An open transaction
there withholds what others write behind it from every reader of committed records. The broker ends it after
its time-out only, and a task's opening ends it when the service has started: two seconds later.

This module is imported fast: it needs neither the events nor the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError

from tunestream.streams.broker.options import client_options

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["end_leftovers"]

# A broker that takes longer is busy or away; the tasks' openings do the same again.
_BUDGET_SECONDS: Final = 2.0


async def end_leftovers(settings: KafkaSettings, service: str, replica: str) -> set[int]:
    """End the transactions that this replica's former process left open.

    The group knows which partitions are ours, as long as the session of the static member lasts. What is not
    ours is left alone. A failure is no fault here: the service starts, and shows it.

    Args:
        settings: the broker.
        service: its name.
        replica: number of this one.

    Returns:
        The partition numbers whose transactions have ended.
    """
    group = settings.topic(service)
    try:
        async with asyncio.timeout(_BUDGET_SECONDS):
            numbers = await _numbers_of(settings, group, f"{group}-{replica}")
            await asyncio.gather(*(_fence(settings, f"{group}-{number}") for number in numbers))
    except (KafkaError, OSError, TimeoutError):
        return set()
    return numbers


async def _numbers_of(settings: KafkaSettings, group: str, client_id: str) -> set[int]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        (described,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    found: dict[str, Any] = described.to_object()["groups"][0]
    if found["state"] != "Stable":
        return set()
    ours = [member for member in found["members"] if member["client_id"] == client_id]
    return {number for member in ours for number in _assigned(member["member_assignment"])}


def _assigned(encoded: bytes) -> Iterable[int]:
    return (place.partition for place in ConsumerProtocol.ASSIGNMENT.decode(encoded).partitions())


async def _fence(settings: KafkaSettings, transactional_id: str) -> None:
    """Take a transactional id over, which ends its open transaction."""
    producer = AIOKafkaProducer(**client_options(settings), transactional_id=transactional_id)
    try:
        await producer.start()
    finally:
        await producer.stop()
