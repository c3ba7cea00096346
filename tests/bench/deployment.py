"""A deployment of its own for each round: topics under a fresh prefix on one broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import uuid4

from tests.bench.workload import RUN, Record
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_producer
from tunestream.streams.tasks.encoding import BatchSet, partition_for

__all__ = ["Deployment", "deploy", "fill"]

_CHUNK = 5_000


@dataclass(frozen=True)
class Deployment:
    """Topics of one round with one run applied."""

    kafka: KafkaSettings
    config: RunConfig
    folder: Path

    def service(self, name: str, replica: str = "0") -> ServiceProcess:
        """Return a replica of a service on these topics, not started."""
        return ServiceProcess(name, self.kafka, self.folder, replica, {"TUNESTREAM_LOG_LEVEL": "warning"})


async def deploy(servers: str, folder: Path, sections: Mapping[str, object] | None = None) -> Deployment:
    """Create all topics under a new prefix and apply the run."""
    prefix = f"bench-{uuid4().hex[:8]}."
    kafka = KafkaSettings(bootstrap_servers=servers, topic_prefix=prefix)
    await apply_topics(kafka)
    config = await apply_run(kafka, RUN, **(sections or {}))
    return Deployment(kafka, config, folder / prefix.rstrip("."))


async def fill(kafka: KafkaSettings, name: str, records: Iterable[Record]) -> int:
    """Write records to a topic of the catalogue, by key, and return how many."""
    topic, iterator, count = kafka.topic(name), iter(records), 0
    async with make_producer(kafka) as producer:
        while chunk := list(islice(iterator, _CHUNK)):
            batches = BatchSet(producer)
            for record in chunk:
                place = partition_for(record.key, kafka.partitions)
                batches.append(topic, place, record.key, record.value, record.headers)
            sent = [
                await producer.send_batch(batch, where, partition=number) for where, number, batch in batches
            ]
            await asyncio.gather(*sent)
            count += len(chunk)
    return count
