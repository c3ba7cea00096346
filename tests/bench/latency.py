"""From the last candidate of a turn to its group, readable and committed, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from statistics import quantiles

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy
from tests.bench.results import Bar, Figure, at_most
from tests.bench.workload import (
    CANDIDATES_A_SECOND,
    CANDIDATES_A_TURN,
    TURNS_SIDE_BY_SIDE,
    Record,
    candidate_events,
    candidate_steps,
    whole_blocks,
)
from tunestream.streams.broker.client import make_consumer, make_producer
from tunestream.streams.tasks.encoding import partition_for

__all__ = ["latency"]

_TICK_SECONDS = 0.005
_LAST_ONE_SECONDS = 20.0
_WARM_UP = 0.2
_BLOCK = TURNS_SIDE_BY_SIDE * CANDIDATES_A_TURN


async def latency(context: Context) -> list[Figure]:
    """One hop (pair builder alone) and both hops, 2,000 candidates/s."""
    count = whole_blocks(context.sized(40_000, 12_000))
    one, both = [], []
    for _ in range(context.rounds):
        where = await deploy(context.servers, context.folder)
        steps = candidate_steps(count, where.config.digest)
        one.append(await _measure(where, ["pair_builder"], "ttc.candidates", steps, count))
        where = await deploy(context.servers, context.folder)
        services = ["ttc_collector", "pair_builder"]
        both.append(await _measure(where, services, "ttc.events", candidate_events(count), count))
    return [
        *_figures("one hop", one, at_most(10), at_most(35)),
        *_figures("both hops", both, at_most(25), at_most(55)),
    ]


def _figures(name: str, rounds: Sequence[Sequence[float]], p50: Bar, p99: Bar) -> list[Figure]:
    cut = [quantiles(each, n=100) for each in rounds]
    return [
        Figure("latency", f"{name}: p50", tuple(each[49] for each in cut), "ms", p50),
        Figure("latency", f"{name}: p99", tuple(each[98] for each in cut), "ms", p99),
    ]


async def _measure(
    where: Deployment, services: Sequence[str], topic: str, records: Iterable[Record], count: int
) -> list[float]:
    """Return the latency of each turn in ms, without the first fifth of them."""
    kafka = where.kafka
    async with AsyncExitStack() as stack:
        for name in services:
            await stack.enter_async_context(where.service(name))
        consumer = await stack.enter_async_context(
            make_consumer(kafka, kafka.topic("trajectories"), fetch_max_wait_ms=5)
        )
        producer = await stack.enter_async_context(make_producer(kafka))
        read: dict[str, float] = {}
        reading = asyncio.create_task(_read(consumer, read, count // CANDIDATES_A_TURN))
        sent = await _publish(producer, kafka.topic(topic), kafka.partitions, list(records))
        async with asyncio.timeout(_LAST_ONE_SECONDS):
            await reading
    turns = list(sent)[int(len(sent) * _WARM_UP) :]
    return [(read[turn] - sent[turn]) * 1000 for turn in turns]


async def _publish(
    producer: AIOKafkaProducer, topic: str, partitions: int, records: Sequence[Record]
) -> dict[str, float]:
    """Publish at the steady rate; return when each turn's last candidate was handed over."""
    sent: dict[str, float] = {}
    began, number = time.perf_counter(), 0
    while number < len(records):
        due = min(len(records), int((time.perf_counter() - began) * CANDIDATES_A_SECOND))
        for record in records[number:due]:
            if number % _BLOCK >= _BLOCK - TURNS_SIDE_BY_SIDE:
                turn = number // _BLOCK * TURNS_SIDE_BY_SIDE + number % TURNS_SIDE_BY_SIDE
                sent[f"turn-{turn}"] = time.perf_counter()
            place = partition_for(record.key, partitions)
            await producer.send(topic, record.value, record.key, partition=place, headers=record.headers)
            number += 1
        await asyncio.sleep(_TICK_SECONDS)
    await producer.flush()
    return sent


async def _read(consumer: AIOKafkaConsumer, read: dict[str, float], turns: int) -> None:
    """Note when each turn's group can be read."""
    async for now, turn in _groups(consumer):
        read[turn] = now
        if len(read) == turns:
            return


async def _groups(consumer: AIOKafkaConsumer) -> AsyncIterator[tuple[float, str]]:
    while True:
        for part in (await consumer.getmany(timeout_ms=1000)).values():
            now = time.perf_counter()
            for record in part:
                body = orjson.loads(record.value)
                if "turn_id" in body:  # ticks have none
                    yield now, body["turn_id"]
