"""What a read_committed auditor finds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from tests.helpers.log import DEADLINE, header, read_all
from tunestream.config.settings import KafkaSettings
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.streams.client import make_consumer

GROUP_TYPE = "tunestream.trajectory_group.v1"
TICK_TYPE = "tunestream.tick.v1"
TurnKey = tuple[str, str, str]


def bodies_by_turn(records: Sequence[ConsumerRecord]) -> dict[TurnKey, list[bytes]]:
    """Return the bodies of the groups by run, example and turn."""
    found: dict[TurnKey, list[bytes]] = {}
    for record in records:
        if header(record, "ce_type") == GROUP_TYPE:
            group = TrajectoryGroup.model_validate_json(record.value)
            found.setdefault((group.run_id, group.example_id, group.turn_id), []).append(record.value)
    return found


def origins(records: Sequence[ConsumerRecord]) -> Counter[str]:
    """Count the candidates and markers by the record of `ttc.events` that they came of."""
    return Counter(
        header(record, "ce_tsorigin") or "" for record in records if header(record, "ce_type") != TICK_TYPE
    )


async def until_handled(
    settings: KafkaSettings, service: str, topic: str, deadline: float = DEADLINE
) -> None:
    """Wait until a service has committed every record that its input has now."""
    last: dict[TopicPartition, int] = {}
    for record in await read_all(settings, topic):
        last[TopicPartition(record.topic, record.partition)] = record.offset
    async with (
        asyncio.timeout(deadline),
        make_consumer(settings, group_id=settings.topic(service)) as consumer,
    ):
        for place, offset in last.items():
            while (await consumer.committed(place) or 0) <= offset:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
