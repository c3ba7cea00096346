"""How fast a process takes its backlog: measured from outside, the same way for every contender."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.bench.deployment import Deployment
from tests.bench.sampling import command
from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.administration import administration

__all__ = ["Pace", "copy_pace", "kafka_streams_pace", "quix_pace", "service_pace", "until_committed"]

_POLL_SECONDS = 0.02
_DEADLINE_SECONDS = 300.0
# The first tenth warms up caches, connections and the broker.
_WARM_UP = 0.1


@dataclass(frozen=True)
class Pace:
    """What one process did with a backlog: records/s, CPU seconds per million records, resident bytes."""

    rate: float
    cpu: float
    rss: int

    def of_candidates(self, a_record: int) -> Pace:
        """Return the same in candidates, of which a record holds so many."""
        return Pace(self.rate * a_record, self.cpu / a_record, self.rss)


async def pace_of(process: psutil.Process, kafka: KafkaSettings, group: str, total: int) -> Pace:
    """Follow the offsets that a consumer group commits until ``total`` records are done.

    Raises:
        TimeoutError: when that takes five minutes.
        ChildProcessError: when the process ends before.
    """
    async with asyncio.timeout(_DEADLINE_SECONDS), administration(kafka) as admin:
        first = await _done(admin, group, int(total * _WARM_UP), process)
        began, cpu = time.perf_counter(), _cpu(process)
        last = await _done(admin, group, total, process)
        seconds, used = time.perf_counter() - began, _cpu(process) - cpu
    count = last - first
    return Pace(count / seconds, used / count * 1e6, process.memory_info().rss)


async def _done(admin: AIOKafkaAdminClient, group: str, enough: int, process: psutil.Process) -> int:
    while (count := await committed(admin, group)) < enough:
        if process.status() == psutil.STATUS_ZOMBIE or not process.is_running():
            raise ChildProcessError(f"{group} ended after {count} of {enough} records")
        await asyncio.sleep(_POLL_SECONDS)
    return count


async def committed(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the sum of a group's committed offsets."""
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except KafkaError as error:
        if not error.retriable:
            raise
        return 0  # a broker on which no group was ever formed has no coordinator yet
    return sum(max(0, found.offset) for found in offsets.values())


async def until_committed(kafka: KafkaSettings, group: str, count: int) -> None:
    """Wait until a group has committed ``count`` records."""
    async with asyncio.timeout(_DEADLINE_SECONDS), administration(kafka) as admin:
        while await committed(admin, group) < count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(_POLL_SECONDS)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def service_pace(deployment: Deployment, name: str, total: int, profiles: Path | None = None) -> Pace:
    """Let one replica of a service take the backlog; what it spends its CPU on is written to ``profiles``."""
    group = deployment.kafka.topic(name.replace("_", "-"))
    service = deployment.service(name)
    if profiles is not None:
        await asyncio.to_thread(profiles.mkdir, parents=True, exist_ok=True)
        service.command = command((profiles / f"{group}.json").resolve())
    service.start()
    try:
        assert service.process is not None
        return await pace_of(psutil.Process(service.process.pid), deployment.kafka, group, total)
    finally:
        await asyncio.to_thread(service.stop)


async def copy_pace(deployment: Deployment, source: str, total: int) -> Pace:
    """Let the bare copy take the backlog of a catalogue's topic, into a topic of its own."""
    kafka = deployment.kafka
    group, target = kafka.topic(f"copy-of-{source}"), kafka.topic(f"copy.{source}")
    async with administration(kafka) as admin:
        await admin.create_topics([NewTopic(target, kafka.partitions, 1)])
    arguments = [kafka.bootstrap_servers, group, kafka.topic(source), target]
    return await _command_pace(
        [sys.executable, "-m", "tests.bench.bare_copy", *arguments], kafka, group, total
    )


async def quix_pace(deployment: Deployment, python: Path, total: int) -> Pace:
    """Let Quix Streams, from an environment of its own, build pairs of the backlog."""
    return await _pairs_pace(deployment, "quix", [str(python), _beside("quix_pairs.py")], total)


async def kafka_streams_pace(deployment: Deployment, jars: Path, total: int) -> Pace:
    """Let Kafka Streams, with jars of its own, build pairs of the backlog."""
    java = ["java", "-cp", f"{jars}/*", _beside("KafkaStreamsPairs.java")]
    return await _pairs_pace(deployment, "kafka-streams", java, total)


def _beside(name: str) -> str:
    return str(Path(__file__).with_name(name))


async def _pairs_pace(deployment: Deployment, name: str, command: Sequence[str], total: int) -> Pace:
    kafka, folder = deployment.kafka, deployment.folder / name
    group = kafka.topic(name)
    async with administration(kafka) as admin:
        await admin.create_topics([NewTopic(f"{group}.trajectories", kafka.partitions, 1)])
    arguments = [kafka.bootstrap_servers, group, kafka.topic("ttc.candidates"), str(folder)]
    return await _command_pace([*command, *arguments], kafka, group, total)


async def _command_pace(command: Sequence[str], kafka: KafkaSettings, group: str, total: int) -> Pace:
    """Let a process of our own take the backlog in the name of ``group``."""
    process = await asyncio.to_thread(subprocess.Popen, command, cwd=Path(__file__).parents[2])
    try:
        return await pace_of(psutil.Process(process.pid), kafka, group, total)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
