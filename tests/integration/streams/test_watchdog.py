"""No partition stands still in silence: health, metric and log name it, and its explanation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord, TopicPartition

from tests.helpers.counting import (
    INPUT,
    OUTPUT,
    Board,
    example_end,
    numbers,
    plan,
    running,
    send,
    until_answer,
)
from tests.helpers.log import read_until
from tests.helpers.surfaces import Fault, until_named
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_transactional_producer
from tunestream.streams.embedded import EmbeddedKafka
from tunestream.streams.fetch.group_consumer import GroupConsumer
from tunestream.streams.fetch.walking import WalkedRecords

STALL = 0.5
QUICK = ServiceSettings(retry_min_seconds=0.05, retry_max_seconds=0.2, stall_seconds=STALL)
PARTITIONS = range(4)


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[GroupConsumer]:
    """The consumers of the services that start."""
    found: list[GroupConsumer] = []
    start = GroupConsumer.start

    async def noted(self: GroupConsumer) -> None:
        found.append(self)
        await start(self)

    monkeypatch.setattr(GroupConsumer, "start", noted)
    return found


async def _until_ready(client: httpx.AsyncClient) -> None:
    await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)


async def _stalled(client: httpx.AsyncClient, reason: str, *, times: int = 1) -> str:
    """Wait until health names a stall of this reason that took so many deadlines; returns its line."""

    def lines(answer: httpx.Response) -> list[str]:
        found = [line for line in answer.json()["reasons"] if reason in line and "stands still" in line]
        return [line for line in found if float(line.split(" for ")[1].split(" s:")[0]) >= times * STALL]

    answer = await until_answer(client, "/health/ready", lambda answer: bool(lines(answer)))
    assert answer.status_code == 503
    return lines(answer)[0]


async def _until_gauges(client: httpx.AsyncClient, kafka: KafkaSettings, *expected: float) -> None:
    """Wait until the gauges of the input's partitions, in order, are these; they follow the next look."""
    name = (
        f'tunestream_partition_stalled{{partition="(.)",service="pair-builder",topic="{kafka.topic(INPUT)}"}}'
    )

    def shown(answer: httpx.Response) -> bool:
        gauges = sorted(re.findall(rf"{name} (\S+)", answer.text))
        return [float(value) for _, value in gauges] == list(expected)

    await until_answer(client, "/metrics", shown)


def _counts(count: int, *partitions: int) -> Callable[[list[ConsumerRecord]], bool]:
    return lambda found: all(len(numbers(found, f"run{number}")) >= count for number in partitions)


async def _send_one_each(kafka: KafkaSettings, count: int) -> None:
    await send(kafka, [example_end(f"run{number}", number) for number in PARTITIONS])
    await read_until(kafka, OUTPUT, _counts(count, *PARTITIONS))


def _is_of(place: TopicPartition, line: dict[str, Any]) -> bool:
    return bool((line.get("topic"), line.get("partition")) == place)


def _stall(partition: int, reason: str, event: str = "partition.stalled") -> Fault:
    """A partition that stands still for a reason, which a line of the log names."""
    return Fault(
        health=rf"partition {partition} of \S+ stands still.*{reason}",
        metric=rf'tunestream_partition_stalled\{{partition="{partition}"',
        log=rf'(?=.*"{re.escape(event)}").*{reason}',
        doctor=rf"pair_builder: .*partition {partition} of \S+ stands still.*{reason}",
    )


async def test_a_partition_that_is_not_fetched_is_named_and_asks_for_a_restart(
    kafka: KafkaSettings, consumers: list[GroupConsumer], log_lines: list[str]
) -> None:
    place = TopicPartition(kafka.topic(INPUT), 2)
    async with running(plan(kafka, Board()), QUICK) as client:
        await _send_one_each(kafka, 1)
        await _until_ready(client)
        await _until_gauges(client, kafka, 0, 0, 0, 0)
        log_lines.clear()  # a busy machine may have held up any of them
        consumers[0].pause(place)  # stands for whatever the client does not do any more
        await send(kafka, [example_end(f"run{number}", number) for number in PARTITIONS])
        line = await _stalled(client, f"partition 2 of {place.topic} stands still at offset 1 ")
        assert "1 offsets wait" in line
        await _until_gauges(client, kafka, 0, 0, 1, 0)
        await until_named(client, kafka, log_lines, _stall(2, "1 offsets wait"))
        answer = await until_answer(client, "/health/live", lambda answer: answer.status_code == 503)
        assert f"partition 2 of {place.topic}" in answer.text
        consumers[0].resume(place)
        await _until_ready(client)
        assert (await client.get("/health/live")).json()["reasons"] == []
        await _until_gauges(client, kafka, 0, 0, 0, 0)
    of_it = [one for one in map(json.loads, log_lines) if _is_of(place, one)]
    # Between them it may be told that a batch is in hand, which is an explanation.
    stalled, *_, moving = [
        line for line in of_it if line["event"] in {"partition.stalled", "partition.moving"}
    ]
    expected = {"topic": place.topic, "partition": 2, "offset": 1, "explained": False}
    assert expected.items() <= stalled.items()
    assert (stalled["event"], moving["event"]) == ("partition.stalled", "partition.moving")


async def test_a_fetch_that_cannot_be_read_is_named(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    broken: set[int] = set()
    original = WalkedRecords._unpack_records

    def unpack(self: Any) -> Iterator[ConsumerRecord]:
        if self._tp.partition in broken:
            raise ValueError("no batch")
        yield from original(self)

    monkeypatch.setattr(WalkedRecords, "_unpack_records", unpack)
    async with running(plan(kafka, Board()), QUICK) as client:
        await _send_one_each(kafka, 1)
        broken.add(1)
        await send(kafka, [example_end(f"run{number}", number) for number in PARTITIONS])
        await read_until(kafka, OUTPUT, _counts(2, 0, 2, 3))
        line = await _stalled(client, "ValueError: no batch")
        assert "partition 1 of" in line
        assert "at offset 1 " in line
        await until_named(client, kafka, log_lines, _stall(1, "ValueError: no batch"))
        await until_named(client, kafka, log_lines, _stall(1, "no batch", "poll.failed"))
        await _until_gauges(client, kafka, 0, 1, 0, 0)
        broken.clear()
        found = await read_until(kafka, OUTPUT, _counts(2, *PARTITIONS))
        await _until_ready(client)
    assert numbers(found, "run1") == [1, 2]


async def test_an_open_transaction_is_an_explanation(kafka: KafkaSettings) -> None:
    async with running(plan(kafka, Board()), QUICK) as client:
        await _send_one_each(kafka, 1)
        async with make_transactional_producer(kafka, "agent") as agent:
            await agent.begin_transaction()
            record = example_end("run0", 0)
            await agent.send_and_wait(
                kafka.topic(INPUT), record.value, record.key, 0, headers=list(record.headers)
            )
            await send(kafka, [record])
            line = await _stalled(client, "an open transaction of a producer at offset 1 ", times=8)
            assert f"partition 0 of {kafka.topic(INPUT)}" in line
            await _until_gauges(client, kafka, 1, 0, 0, 0)
            assert (await client.get("/health/live")).json()["reasons"] == []
            await agent.commit_transaction()
        await read_until(kafka, OUTPUT, _counts(3, 0))
        await _until_ready(client)


async def test_a_fault_that_is_retried_is_an_explanation(kafka: KafkaSettings, log_lines: list[str]) -> None:
    board = Board()
    async with running(plan(kafka, board), QUICK) as client:
        await _send_one_each(kafka, 1)
        board.failing[3] = "the store is away"
        await send(kafka, [example_end("run3", 3)])
        await _stalled(client, "the store is away", times=8)
        await until_named(client, kafka, log_lines, _stall(3, "the store is away", "partition.fault"))
        assert (await client.get("/health/live")).json()["reasons"] == []
        board.failing.clear()
        await read_until(kafka, OUTPUT, _counts(2, 3))
        await _until_ready(client)


async def test_a_transaction_that_hangs_is_named_and_the_others_go_on(
    kafka: KafkaSettings, log_lines: list[str]
) -> None:
    board = Board()
    async with running(plan(kafka, board), QUICK) as client:
        await _send_one_each(kafka, 1)
        board.held[1] = asyncio.Event()
        await send(kafka, [example_end(f"run{number}", number) for number in PARTITIONS])
        await read_until(kafka, OUTPUT, _counts(2, 0, 2, 3))
        await _stalled(client, "its batch is in hand", times=8)
        await until_named(client, kafka, log_lines, _stall(1, "its batch is in hand"))
        assert (await client.get("/health/live")).json()["reasons"] == []
        board.held.pop(1).set()
        await read_until(kafka, OUTPUT, _counts(2, *PARTITIONS))
        await _until_ready(client)


async def test_an_assignment_that_could_not_be_taken_is_named_and_taken_late(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    """The client swallows what its rebalance listener raises."""
    broken = [True]
    original = GroupConsumer.pause

    def pause(self: GroupConsumer, *places: TopicPartition) -> None:
        if broken[0]:
            raise OSError("no pause")
        original(self, *places)

    monkeypatch.setattr(GroupConsumer, "pause", pause)
    await send(kafka, [example_end(f"run{number}", number) for number in PARTITIONS])
    async with running(plan(kafka, Board()), QUICK) as client:
        answer = await until_answer(
            client, "/health/ready", lambda answer: "OSError: no pause" in answer.text
        )
        assert "an assignment could not be taken" in answer.text
        not_taken = Fault(
            health="an assignment could not be taken: OSError: no pause",
            metric="tunestream_unready_reasons",
            log=r'(?=.*"assignment\.failed").*no pause',
            doctor="pair_builder: .*an assignment could not be taken: OSError: no pause",
        )
        await until_named(client, kafka, log_lines, not_taken)
        broken[0] = False
        found = await read_until(kafka, OUTPUT, _counts(1, *PARTITIONS))
        assert all(numbers(found, f"run{number}") == [1] for number in PARTITIONS)
        await _until_ready(client)


async def test_a_broker_that_is_away_is_an_explanation(
    own_kafka: EmbeddedKafka, log_lines: list[str]
) -> None:
    kafka = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers)
    await apply_topics(kafka)
    async with running(plan(kafka, Board()), QUICK) as client:
        await _send_one_each(kafka, 1)
        await asyncio.to_thread(own_kafka.stop)
        await _stalled(client, "the broker does not answer", times=2)
        await until_named(client, kafka, log_lines, _stall(0, "the broker does not answer"))
        assert (await client.get("/health/live")).json()["reasons"] == []
        await asyncio.to_thread(own_kafka.start)
        await _send_one_each(kafka, 2)
        await _until_ready(client)
