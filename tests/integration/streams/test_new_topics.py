"""A release in front of a deployment without the topics that it added, or with odd ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from aiokafka.admin import NewTopic

from tests.helpers.counting import (
    OUTPUT,
    Board,
    Counting,
    example_end,
    numbers,
    plan,
    running,
    send,
    until_answer,
)
from tests.helpers.faults import delete_topics
from tests.helpers.log import read_until
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.administration import administration
from tunestream.streams.broker.client import MissingTopic, make_consumer
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.task import Task
from tunestream.topics import INPUTS, changelog_of

ADDED = ("ttc.unscored", "ttc.scores", "ttc.scores.dlq")


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    """A deployment with the topics of the release before."""
    await apply_topics(kafka_settings)
    await delete_topics(kafka_settings, *ADDED)
    return kafka_settings


def service_of(name: str, kafka: KafkaSettings) -> Plan:
    return Plan(name, INPUTS[name], changelog_of(name), lambda number: Counting(number, Board()), kafka)


@asynccontextmanager
async def opened(made: Plan) -> AsyncIterator[Task]:
    async with make_consumer(made.kafka, group_id=made.group) as consumer:
        task = Task(made, 0, lambda _task, _error: None)
        try:
            await task.open(consumer)
            yield task
        finally:
            await task.close(10.0, keep=False)


@pytest.mark.parametrize("name", ["ttc-collector", "curriculum-gate", "trainer"])
async def test_a_service_asks_only_for_topics_that_it_reads_and_writes(
    name: str, kafka: KafkaSettings
) -> None:
    async with opened(service_of(name, kafka)) as task:
        assert {place.topic for place in task.positions} == set(map(kafka.topic, INPUTS[name]))


async def test_an_output_that_is_missing_is_named_with_the_remedy(kafka: KafkaSettings) -> None:
    await apply_topics(kafka)
    await delete_topics(kafka, "ttc.unscored")
    with pytest.raises(MissingTopic, match=r"ttc\.unscored does not exist .* `tunestream topics apply`"):
        async with opened(service_of("pair-builder", kafka)):
            pass


async def test_a_missing_input_is_waited_for_and_named_until_it_is_there(kafka: KafkaSettings) -> None:
    made = plan(kafka, Board(), *INPUTS["pair-builder"])
    await send(kafka, [example_end("run", number) for number in range(kafka.partitions)])
    async with running(made) as client:
        wanted = (
            f"topic {kafka.topic('ttc.scores')} is not on the broker; nothing of it is read until it is "
            "there: tunestream topics apply"
        )
        answer = await until_answer(
            client, "/health/ready", lambda answer: wanted in answer.json()["reasons"]
        )
        assert answer.status_code == 503
        await apply_topics(kafka)
        found = await read_until(kafka, OUTPUT, lambda found: len(numbers(found, "run")) == kafka.partitions)
        assert numbers(found, "run") == [1] * kafka.partitions
        await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)


async def test_unequal_counts_are_refused_at_the_start(kafka: KafkaSettings) -> None:
    async with administration(kafka) as admin:
        await admin.create_topics([NewTopic(kafka.topic("ttc.scores"), 2, 1)])
    made = plan(kafka, Board(), *INPUTS["pair-builder"])
    async with running(made) as client:
        await until_answer(client, "/health/live", lambda answer: "belong together" in answer.text)
        answer = await client.get("/health/live")
    assert answer.status_code == 503
    assert "topic ttc.scores has 2 partitions, and topic ttc.candidates has 4" in answer.text
