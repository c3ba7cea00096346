"""Resident memory of a light service over many candidates."""

from __future__ import annotations

import psutil
from aiokafka import TopicPartition

from tests.bench.context import Context
from tests.bench.deployment import deploy, fill
from tests.bench.race import until_committed
from tests.bench.results import Figure, at_most
from tests.bench.workload import candidate_events, whole_blocks
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import delete_before

__all__ = ["memory"]

_PARTS = 10
# To the broker: all that there is.
_TO_THE_END = -1


async def memory(context: Context) -> list[Figure]:
    """The collector over a million candidates (quick: 100,000; long: ten million), after each tenth."""
    part = whole_blocks(1_000_000 if context.long else context.sized(100_000, 10_000))
    where = await deploy(context.servers, context.folder)
    records = candidate_events(part * _PARTS)
    sizes: list[float] = []
    async with where.service("ttc_collector") as service:
        assert service.process is not None
        process = psutil.Process(service.process.pid)
        for number in range(1, _PARTS + 1):
            await fill(where.kafka, "ttc.events", (next(records) for _ in range(part)))
            await until_committed(where.kafka, where.kafka.topic("ttc-collector"), number * part)
            await _delete_all(where.kafka)
            sizes.append(process.memory_info().rss / 1e6)
    title = f"collector, resident over {part * _PARTS:,} candidates"
    return [
        Figure("memory", f"{title}: largest", (max(sizes),), "MB", at_most(150)),
        Figure(
            "memory",
            f"{title}: second half over first",
            (max(sizes[5:]) / max(sizes[:5]),),
            "x",
            at_most(1.05),
        ),
    ]


async def _delete_all(kafka: KafkaSettings) -> None:
    """Delete what was handled: ten million events and what becomes of them are 30 GB."""
    places = [
        TopicPartition(kafka.topic(name), number)
        for name in ("ttc.events", "ttc.candidates")
        for number in range(kafka.partitions)
    ]
    await delete_before(kafka, dict.fromkeys(places, _TO_THE_END))
