"""A member that gets nothing of a topic that it subscribed to joins the group anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import NewPartitions
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from tests.helpers.counting import (
    CHANGELOG,
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
from tests.helpers.log import read_until
from tunestream.config.settings import KafkaSettings, ServiceSettings
from tunestream.events.runs import TURN_FORMAT
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.groups import group_members
from tunestream.streams.broker.options import client_options


async def test_a_static_member_whose_release_reads_one_more_topic_gets_it(
    kafka_settings: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    await apply_topics(kafka_settings)
    made = plan(kafka_settings, Board(), INPUT, "training.control")
    await send(kafka_settings, [example_end("run", 0)])
    await be_the_release_before(kafka_settings, made.group)
    async with running(made, ServiceSettings(retry_min_seconds=0.05)) as client:
        await read_until(kafka_settings, OUTPUT, lambda found: numbers(found, "run") == [1])
        async with asyncio.timeout(90):
            while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    line, *_ = [line for line in capfd.readouterr().err.splitlines() if "group.joining_anew" in line]
    assert f'"lacking": ["{kafka_settings.topic("training.control")}"]' in line


async def test_the_release_before_gets_its_place_back_until_the_upgrade_is_finished(
    kafka_settings: KafkaSettings,
) -> None:
    await apply_topics(kafka_settings)
    made = plan(kafka_settings, Board(), INPUT, "ttc.scores")
    before = replace(made, format=lambda: TURN_FORMAT - 1)
    for number in range(3):
        await send(kafka_settings, [example_end("run", 0)])
        async with running(before) as client:
            await read_until(kafka_settings, OUTPUT, more_than(number))
            await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)
        assert await group_members(kafka_settings, SERVICE) == 0
        async with asyncio.timeout(90):
            await be_the_release_before(kafka_settings, made.group)
    async with running(made) as client:
        await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)
    assert await group_members(kafka_settings, SERVICE) == 1  # its place waits for it


async def test_a_partition_that_somebody_adds_to_an_input_is_noticed_and_stops_no_other(
    kafka_settings: KafkaSettings,
) -> None:
    await apply_topics(kafka_settings)
    made = plan(kafka_settings, Board())
    new = kafka_settings.partitions
    async with running(made) as client:
        async with administration(kafka_settings) as admin:
            await admin.create_partitions({kafka_settings.topic(INPUT): NewPartitions(new + 1)})
        wanted = (
            f"partition {new}: MissingPartition: topic {kafka_settings.topic(CHANGELOG)} has no partition"
        )
        await until_answer(client, "/health/ready", lambda answer: wanted in answer.text)
        await send(kafka_settings, [example_end("run", 0)])
        await read_until(kafka_settings, OUTPUT, lambda found: numbers(found, "run") == [1])


def more_than(count: int) -> Callable[[list[ConsumerRecord]], bool]:
    return lambda found: len(numbers(found, "run")) > count


async def be_the_release_before(kafka: KafkaSettings, group: str) -> None:
    """Join with one topic, and go without leaving, as a static member does."""
    consumer = AIOKafkaConsumer(
        kafka.topic(INPUT),
        **client_options(kafka),
        group_id=group,
        group_instance_id=f"{group}-{ServiceSettings().replica}",
        partition_assignment_strategy=[RangePartitionAssignor],
        enable_auto_commit=False,
    )
    await consumer.start()
    assert len(consumer.assignment()) == kafka.partitions
    await consumer.stop()


async def test_a_service_whose_place_in_the_group_is_lost_by_a_fault_is_not_live(
    kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client does not join again then: without a new process nothing would be read any more."""
    await apply_topics(kafka_settings)
    joined = GroupCoordinator._on_join_complete
    coordinators: list[Any] = []
    broken = False

    async def join(coordinator: Any, *arguments: Any) -> None:
        if broken:
            raise AssertionError("an assignment for an unsubscribed topic")
        coordinators.append(coordinator)
        await joined(coordinator, *arguments)

    monkeypatch.setattr(GroupCoordinator, "_on_join_complete", join)
    async with running(plan(kafka_settings, Board())) as client:
        await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)
        broken = True
        coordinators[0].request_rejoin()
        live = await until_answer(client, "/health/live", lambda answer: answer.status_code == 503)
        ready = await client.get("/health/ready")
    assert "group membership ended: KafkaError" in live.text
    assert "group membership ended: KafkaError" in ready.text
