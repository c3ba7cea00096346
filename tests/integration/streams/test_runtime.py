"""The runtime with a handler that is small enough to see through."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from prometheus_client import REGISTRY, generate_latest

from tests.helpers.counting import (
    INPUT,
    OUTPUT,
    SERVICE,
    Board,
    example_end,
    numbers,
    plan,
    running,
    send,
    until_answer,
)
from tests.helpers.log import header, read_all, read_until
from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.atomic import write_together
from tunestream.streams.broker.groups import group_lags
from tunestream.streams.letters.dead_letters import DLQ_REASON, REASONS
from tunestream.streams.publish import EncodedRecord
from tunestream.streams.tasks.task import TaskClosed

PARTITIONS = range(4)
REASON = "the artifact store is away"
_PARTITION = re.compile(r'"partition": (\d+)')


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


def _run(partition: int) -> str:
    return f"run{partition}"


def _complete(count: int, *partitions: int) -> Callable[[list[ConsumerRecord]], bool]:
    return lambda found: all(len(numbers(found, _run(number))) >= count for number in partitions)


async def test_a_fault_of_ours_stops_one_partition_visibly_and_loses_nothing(kafka: KafkaSettings) -> None:
    board = Board(failing={1: REASON})
    bad = EncodedRecord(INPUT, b"key", b"\xff", [("x", b"\xfe")], 1)
    records = [example_end(_run(number), number) for number in PARTITIONS for _ in range(5)]
    await send(kafka, [*records, bad, example_end(_run(1), 1)])
    aborted = _aborts()
    async with running(plan(kafka, board)) as client:
        await read_until(kafka, OUTPUT, _complete(5, 0, 2, 3))
        told = f"partition 1: RuntimeError: {REASON}"
        answer = await until_answer(client, "/health/ready", lambda answer: told in answer.json()["reasons"])
        assert answer.status_code == 503
        assert all(reason.startswith("partition 1") for reason in answer.json()["reasons"])
        live = await client.get("/health/live")
        assert live.status_code == 200, live.text
        await send(kafka, [example_end(_run(number), number) for number in (0, 2, 3)])
        found = await read_until(kafka, OUTPUT, _complete(6, 0, 2, 3))
        assert numbers(found, _run(1)) == []
        assert await read_all(kafka, f"{INPUT}.dlq") == []  # a refusal commits with its neighbours
        # Counted after the retry was begun; what other tests of this process counted stays.
        await until_answer(client, "/metrics", lambda _answer: _aborts() >= aborted + 3)

        board.failing.clear()
        found = await read_until(kafka, OUTPUT, _complete(6, *PARTITIONS))
        await until_answer(client, "/health/ready", _is_ready)
    for number in PARTITIONS:
        assert numbers(found, _run(number)) == [1, 2, 3, 4, 5, 6]
    (letter,) = await read_all(kafka, f"{INPUT}.dlq")
    assert (letter.key, letter.value, header(letter, DLQ_REASON)) == (b"key", b"\xff", "undecodable.header")


def _aborts() -> float:
    labels = {"fault": "RuntimeError", "service": SERVICE}
    return REGISTRY.get_sample_value("tunestream_transaction_aborts_total", labels) or 0.0


async def test_a_slow_partition_holds_up_itself_alone(kafka: KafkaSettings) -> None:
    """Its table, or its artifact store, takes long: the poll loop goes on for the others, in order."""
    board = Board(held={1: asyncio.Event()})
    await send(kafka, [example_end(_run(number), number) for number in PARTITIONS for _ in range(5)])
    async with running(plan(kafka, board)) as client:
        await read_until(kafka, OUTPUT, _complete(5, 0, 2, 3))
        for count in (6, 7):  # more polls go by, with records of the slow one, too
            await send(kafka, [example_end(_run(number), number) for number in PARTITIONS])
            found = await read_until(kafka, OUTPUT, _complete(count, 0, 2, 3))
            assert numbers(found, _run(1)) == []
        assert (await client.get("/health/live")).status_code == 200
        board.held.pop(1).set()
        found = await read_until(kafka, OUTPUT, _complete(7, *PARTITIONS))
        await until_answer(client, "/health/ready", _is_ready)
    for number in PARTITIONS:
        assert numbers(found, _run(number)) == list(range(1, 8))


async def test_lag_is_what_waits_and_nothing_else(kafka: KafkaSettings) -> None:
    """Neither the end of a transaction counts, nor does a fault hide what waits behind it."""
    board = Board(failing={1: REASON})
    await write_together(kafka, "agent", [example_end(_run(number), number) for number in PARTITIONS])
    async with running(plan(kafka, board)) as client:
        await read_until(kafka, OUTPUT, _complete(1, 0, 2, 3))
        await send(kafka, [example_end(_run(1), 1) for _ in range(7)])
        lag = partial(_lag, kafka)
        # The first record, the end of its transaction, and seven more.
        await until_answer(client, "/metrics", lambda answer: (lag(answer, 0), lag(answer, 1)) == (0, 9))
        (group,) = await group_lags(kafka, {SERVICE: (INPUT,)})
        assert group.lag == 9
        board.failing.clear()
        await read_until(kafka, OUTPUT, _complete(8, 1))
        await write_together(kafka, "agent", [example_end(_run(1), 1)])
        await read_until(kafka, OUTPUT, _complete(9, 1))
        await until_answer(client, "/metrics", lambda answer: lag(answer, 1) == 0)
        async with asyncio.timeout(90):
            while (await group_lags(kafka, {SERVICE: (INPUT,)}))[0].lag:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def _lag(kafka: KafkaSettings, answer: httpx.Response, partition: int) -> float | None:
    labels = f'{{partition="{partition}",service="{SERVICE}",topic="{kafka.topic(INPUT)}"}}'
    found = re.search(rf"tunestream_consumer_lag_records{re.escape(labels)} (\S+)", answer.text)
    return None if found is None else float(found[1])


async def test_series_come_with_their_service_and_go_with_their_partition(kafka: KafkaSettings) -> None:
    async with running(plan(kafka, Board())) as client:
        await until_answer(client, "/health/ready", _is_ready)
        answer = await until_answer(
            client, "/metrics", lambda answer: all(_lag(kafka, answer, number) == 0 for number in PARTITIONS)
        )
        for reason in REASONS:
            assert f'tunestream_dead_letters_total{{reason="{reason}",service="{SERVICE}"}}' in answer.text
        for number in PARTITIONS:
            assert f'tunestream_state{{name="runs",partition="{number}",service="{SERVICE}"}}' in answer.text
            assert f'tunestream_records_total{{partition="{number}",service="{SERVICE}"}}' in answer.text
        assert f'tunestream_transaction_aborts_total{{fault="KafkaError",service="{SERVICE}"}}' in answer.text
    left = generate_latest(REGISTRY).decode()
    lags = [line for line in left.splitlines() if line.startswith("tunestream_consumer_lag_records{")]
    assert not [line for line in lags if kafka.topic(INPUT) in line]
    assert 'name="runs"' not in left


async def test_two_inputs_and_internal_events_make_one_order(kafka: KafkaSettings) -> None:
    board = Board()
    other = "training.control"
    async with running(plan(kafka, board, INPUT, other)) as client:
        await until_answer(client, "/health/ready", _is_ready)
        async with asyncio.TaskGroup() as together:
            together.create_task(send(kafka, [example_end(_run(2), 2) for _ in range(300)]))
            together.create_task(send(kafka, [EncodedRecord(other, b"key", b"{}", [], 2)]))
            for _ in range(20):
                await board.contexts[2].transact(lambda effects: board.handlers[2].count(_run(2), effects))
        found = await read_until(kafka, OUTPUT, _complete(320, 2))
        (letter,) = await read_until(kafka, f"{other}.dlq", bool)
    assert numbers(found, _run(2)) == list(range(1, 321))
    assert letter.partition == 2


async def test_a_failed_internal_event_is_told_and_the_partition_recovers(kafka: KafkaSettings) -> None:
    board = Board()
    seen = ServiceSettings(retry_min_seconds=3.0)  # long enough to be asked meanwhile
    async with running(plan(kafka, board), seen) as client:
        await until_answer(client, "/health/ready", _is_ready)
        board.failing[0] = REASON
        with pytest.raises(TaskClosed):
            await board.contexts[0].transact(lambda effects: board.handlers[0].count(_run(0), effects))
        await until_answer(client, "/health/ready", lambda answer: REASON in answer.text)
        board.failing.clear()
        await send(kafka, [example_end(_run(0), 0)])
        found = await read_until(kafka, OUTPUT, _complete(1, 0))
    assert numbers(found, _run(0)) == [1]


async def test_silence_is_noticed_behind_the_end_of_a_transaction(kafka: KafkaSettings) -> None:
    """A transaction leaves a marker at the end of its topic, which is no record to handle."""
    board = Board(idle=set(PARTITIONS))
    event = example_end(_run(0), 0)
    async with running(plan(kafka, board)):
        await write_together(kafka, "agent", [event])
        await read_until(kafka, OUTPUT, lambda found: len(numbers(found, _run(0))) == 1)
        board.idle.clear()
        async with asyncio.timeout(90):
            while board.idle != set(PARTITIONS):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_health_and_metrics(kafka: KafkaSettings) -> None:
    await send(kafka, [example_end(_run(number), number) for number in PARTITIONS])
    async with running(plan(kafka, Board())) as client:
        await read_until(kafka, OUTPUT, _complete(1, *PARTITIONS))
        ready = await until_answer(client, "/health/ready", _is_ready)
        assert ready.json() == {"ok": True, "reasons": [], "warnings": [], "pid": os.getpid()}
        assert (await client.get("/health/live")).json() == ready.json()
        metrics = (await client.get("/metrics")).text
    for name in (
        "tunestream_records_total",
        "tunestream_consumer_lag_records",
        "tunestream_transaction_seconds_bucket",
        "tunestream_transaction_aborts_total",
        "tunestream_dead_letters_total",
        "tunestream_restored_records_total",
        "tunestream_state",
        "tunestream_domain_events_total",
    ):
        assert name.removesuffix("_bucket").removesuffix("_total") in metrics, name


async def test_workers_are_refused(kafka: KafkaSettings) -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "faststream",
            "run",
            "tunestream_services.ttc_collector.app:app",
            "--workers",
            "2",
        ),
        cwd=Path(__file__).parents[3],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(240):
            seen = b""
            while b"TUNESTREAM_REPLICA, instead of --workers" not in seen:
                line = await process.stdout.readline()
                assert line, seen.decode()
                seen += line
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_killed_replica_comes_back_and_no_partition_moves(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    patient = {"TUNESTREAM_SESSION_TIMEOUT_SECONDS": "45"}  # a busy machine starts a process that slowly
    first, second = (ServiceProcess("ttc_collector", kafka, tmp_path, replica, patient) for replica in "01")
    async with first, second:
        await _spread(first, second)
        before = _opened(second)
        first.kill()
        first.start()
        await first.ready()
        await _spread(first, second)
        assert _opened(second) == before
    assert len(_opened(first)) >= 4


def _opened(service: ServiceProcess) -> list[int]:
    """Return the partitions that a replica opened, in order."""
    lines = service.log.read_text().splitlines()
    return [
        int(found[1]) for line in lines if "partition.open" in line and (found := _PARTITION.search(line))
    ]


async def _spread(*services: ServiceProcess) -> None:
    async with asyncio.timeout(90):
        while len({number for service in services for number in _opened(service)[-2:]}) < len(PARTITIONS):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _is_ready(answer: httpx.Response) -> bool:
    return answer.status_code == 200
