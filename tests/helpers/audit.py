"""What a read_committed auditor finds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from tests.helpers.groups import GROUP_TYPES, read_group
from tests.helpers.log import DEADLINE, header, read_all
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import parse_time
from tunestream.events.keys import decode_key
from tunestream.events.trajectories import CloseReason
from tunestream.streams.broker.client import make_consumer

TICK_TYPE = "tunestream.tick.v1"
TurnKey = tuple[str, str, str]


def bodies_by_turn(records: Sequence[ConsumerRecord]) -> dict[TurnKey, list[bytes]]:
    """Return the bodies of the groups by run, example and turn."""
    found: dict[TurnKey, list[bytes]] = {}
    for record in records:
        if header(record, "ce_type") in GROUP_TYPES:
            group = read_group(record.value)
            found.setdefault((group.run_id, group.example_id, group.turn_id), []).append(record.value)
    return found


def origins(records: Sequence[ConsumerRecord]) -> Counter[str]:
    """Count the candidates and markers by the record of `ttc.events` that they came of."""
    return Counter(
        header(record, "ce_tsorigin") or "" for record in records if header(record, "ce_type") != TICK_TYPE
    )


async def lateness(settings: KafkaSettings, run: str, timeout: float) -> list[float]:
    """Return how long after its time-out silence closed the turns of a run: percentiles 50, 90, 99 and 100.

    Seconds of stream time: the broker's clock, as the log has it. While it is away, no time passes.
    """
    last: dict[str, int] = {}
    for record in await read_all(settings, "ttc.candidates", run=run):
        if header(record, "ce_type") != TICK_TYPE:
            example = decode_key(record.key)[1]
            last[example] = min(last.get(example, record.timestamp), record.timestamp)
    found = sorted(
        (parse_time(header(record, "ce_time") or "") - last[group.example_id]) / 1000 - timeout
        for record in await read_all(settings, "trajectories", run=run)
        if header(record, "ce_type") in GROUP_TYPES
        and (group := read_group(record.value)).closed_by is CloseReason.TIMEOUT
    )
    return [found[min(len(found) - 1, len(found) * part // 100)] for part in (50, 90, 99, 100)]


async def until_handled(
    settings: KafkaSettings, service: str, topic: str, deadline: float = DEADLINE
) -> None:
    """Wait until a service has committed every record that its input has now."""
    last: dict[TopicPartition, int] = {}
    for record in await read_all(settings, topic, undecodable=True):
        last[TopicPartition(record.topic, record.partition)] = record.offset
    async with (
        asyncio.timeout(deadline),
        make_consumer(settings, group_id=settings.topic(service)) as consumer,
    ):
        for place, offset in last.items():
            while (await consumer.committed(place) or 0) <= offset:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
