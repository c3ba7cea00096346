"""How long a compacted topic keeps its tombstones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.deadlines import deadline
from tunestream.topics import TOMBSTONE_SETTING

__all__ = ["keep_tombstones", "tombstone_seconds"]

# Kafka's code for a setting on the topic itself, as opposed to a broker's default.
_SET_ON_TOPIC: Final = 1
_DEADLINE: Final = 30.0
_POLL: Final = 0.05


async def tombstone_seconds(settings: KafkaSettings, topic: str) -> float:
    """Return how long a topic's tombstones are kept, in seconds; ``topic`` with the prefix.

    Raises:
        KafkaError: when the broker refuses; TimeoutError: when it does not answer.
    """
    async with _admin(settings) as admin:
        return await _kept_ms(admin, topic) / 1000


async def keep_tombstones(settings: KafkaSettings, topic: str, seconds: float) -> None:
    """Have a topic's tombstones kept for at least so long; returns when that holds.

    Raises:
        KafkaError: when the broker refuses, e.g. without the right to alter the topic; TimeoutError: when
            it does not answer.
    """
    wanted = int(seconds * 1000)
    async with _admin(settings) as admin:
        # Asked for until it holds: another partition may have asked for less meanwhile.
        while await _kept_ms(admin, topic) < wanted:
            # This request replaces all settings of a topic: those that it has go along.
            held = {entry[0]: entry[1] for entry in await _entries(admin, topic) if entry[3] == _SET_ON_TOPIC}
            held[TOMBSTONE_SETTING] = str(wanted)
            (response,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, held)])
            for code, message, *_ in response.resources:
                _check(code, message)
            await asyncio.sleep(_POLL)


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    async with deadline(_DEADLINE, "asking how long tombstones are kept"), administration(settings) as admin:
        yield admin


async def _kept_ms(admin: AIOKafkaAdminClient, topic: str) -> int:
    entries = await _entries(admin, topic)
    return next(int(entry[1]) for entry in entries if entry[0] == TOMBSTONE_SETTING)


async def _entries(admin: AIOKafkaAdminClient, topic: str) -> list[tuple[str, str, bool, int]]:
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, message, _, _, entries),) = response.resources
    _check(code, message)
    return list(entries)


def _check(code: int, message: str | None) -> None:
    if code != 0:
        raise for_code(code)(message or "")
