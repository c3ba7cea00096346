"""A replica killed with -9 and started again, with open candidates to restore, under a light load."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from itertools import pairwise

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy, fill
from tests.bench.race import until_committed
from tests.bench.results import Figure, at_most
from tests.bench.workload import RUN, Record, candidate_steps, whole_blocks
from tests.helpers.services import ServiceProcess
from tunestream.events.keys import encode_key
from tunestream.streams.broker.client import make_consumer, make_producer
from tunestream.streams.tasks.encoding import partition_for

__all__ = ["recovery", "start_timed"]

_RATE = 400
# So turns of every partition are complete all the time: the load itself is never silent.
_SIDE_BY_SIDE = 8
_TICK_SECONDS = 0.01
_BEFORE_SECONDS = 3.0
_AFTER_SECONDS = 3.0
_DEADLINE_SECONDS = 120.0


async def recovery(context: Context) -> list[Figure]:
    """Two replicas of the pair builder with 100,000 open candidates; one of them dies."""
    open_candidates = whole_blocks(context.sized(100_000, 20_000))
    rounds = [await _round(context, open_candidates) for _ in range(1 if context.quick else 3)]
    started, up, ready, dead, other = (tuple(column) for column in zip(*rounds, strict=True))
    held = f"{open_candidates:,} open candidates, half of them the dead replica's"
    return [
        Figure("recovery", "process up to all partitions open", up, "s", at_most(2), held),
        Figure(
            "recovery", "process start to up", started, "s", None, "Python's imports and the read of the runs"
        ),
        Figure("recovery", "process start to all partitions open", ready, "s"),
        Figure("recovery", "longest silence of the dead replica's partitions", dead, "s"),
        Figure("recovery", "longest silence of the other replica's partitions", other, "s", at_most(0.5)),
    ]


async def _round(context: Context, open_candidates: int) -> tuple[float, float, float, float, float]:
    sections = {"trajectory_builder": {"turn_timeout": "1h", "turn_memory": "2h"}}
    where = await deploy(context.servers, context.folder, sections)
    digest = where.config.digest
    await fill(where.kafka, "ttc.candidates", candidate_steps(open_candidates, digest, complete=False))
    async with AsyncExitStack() as stack:
        replicas = [where.service("pair_builder", replica=name) for name in "01"]
        for replica in replicas:
            await stack.enter_async_context(replica)
        await until_committed(where.kafka, where.kafka.topic("pair-builder"), open_candidates)
        consumer = await stack.enter_async_context(
            make_consumer(where.kafka, where.kafka.topic("trajectories"))
        )
        producer = await stack.enter_async_context(make_producer(where.kafka))
        heard: dict[int, list[float]] = defaultdict(list)
        load = candidate_steps(
            400_000, digest, examples="later", side_by_side=_SIDE_BY_SIDE, turns_an_example=1
        )
        tasks = [
            asyncio.create_task(_publish(where, producer, load)),
            asyncio.create_task(_listen(where, consumer, heard)),
        ]
        try:
            await asyncio.sleep(_BEFORE_SECONDS)
            killed = time.perf_counter()
            replicas[0].kill()
            started, up, ready = await start_timed(replicas[0])
            await asyncio.sleep(_AFTER_SECONDS)
        finally:
            await _end(tasks)
    gaps = sorted(_longest_gap(times, killed) for times in heard.values())
    return up - started, ready - up, ready - started, gaps[-1], gaps[1]


async def start_timed(replica: ServiceProcess) -> tuple[float, float, float]:
    """Start a replica; return when the process was started, when it first answered, and when it was ready."""
    started = time.perf_counter()
    replica.start()
    up = 0.0
    async with asyncio.timeout(_DEADLINE_SECONDS), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{replica.port}/health/ready")
                up = up or time.perf_counter()
                if answer.status_code == 200:
                    return started, up, time.perf_counter()
            await asyncio.sleep(0.02)


async def _publish(where: Deployment, producer: AIOKafkaProducer, load: Iterator[Record]) -> None:
    topic, partitions = where.kafka.topic("ttc.candidates"), where.kafka.partitions
    while True:
        for _ in range(int(_RATE * _TICK_SECONDS)):
            record = next(load)
            place = partition_for(record.key, partitions)
            await producer.send(topic, record.value, record.key, partition=place, headers=record.headers)
        await asyncio.sleep(_TICK_SECONDS)


async def _listen(where: Deployment, consumer: AIOKafkaConsumer, heard: dict[int, list[float]]) -> None:
    """Note when groups came out, by the partition of their candidates."""
    while True:
        for part in (await consumer.getmany(timeout_ms=1000)).values():
            now = time.perf_counter()
            for record in part:
                example = orjson.loads(record.value).get("example_id")
                if example is not None:
                    heard[partition_for(encode_key(RUN, example), where.kafka.partitions)].append(now)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def _longest_gap(times: list[float], since: float) -> float:
    later = [since, *(each for each in times if each > since)]
    return max((b - a for a, b in pairwise(later)), default=float("inf"))
