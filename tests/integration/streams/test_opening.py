"""The order in which a partition is opened, raced by the predecessor whose place it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tests.helpers.counting import CHANGELOG, INPUT, OUTPUT, PASSING, Board, example_end, numbers, plan, send
from tests.helpers.log import read_all
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_consumer, make_transactional_producer
from tunestream.streams.changelog.values import POSITIONS_KEY
from tunestream.streams.tasks.state import Dormant
from tunestream.streams.tasks.task import Task

RECORDS = 6
HANDLED_BEFORE = 4


class Predecessor:
    """The last owner: its transaction has everything in it and only wants to commit."""

    def __init__(self, kafka: KafkaSettings, group: str) -> None:
        self._kafka = kafka
        self._group = group
        self._producer: AIOKafkaProducer = make_transactional_producer(kafka, f"{group}-0")
        self.committed = False

    async def prepare(self) -> None:
        await self._producer.start()
        await self._producer.begin_transaction()
        name = str(HANDLED_BEFORE).encode()
        await self._producer.send_and_wait(self._kafka.topic(CHANGELOG), name, b"run", partition=0)
        for number in range(1, HANDLED_BEFORE + 1):
            await self._producer.send_and_wait(
                self._kafka.topic(OUTPUT), b"{}", b"k", 0, headers=[("ce_id", b"run:%d" % number)]
            )
        place = TopicPartition(self._kafka.topic(INPUT), 0)
        await self._producer.send_offsets_to_transaction({place: HANDLED_BEFORE}, self._group)

    async def commit(self) -> None:
        """Commit, once, unless fenced."""
        if self.committed:
            return
        try:
            await self._producer.commit_transaction()
            self.committed = True
        except KafkaError:
            pass

    async def stop(self) -> None:
        await self._producer.stop()


class Racing:
    """The group's consumer, except that the predecessor commits right after offsets were read."""

    def __init__(self, consumer: AIOKafkaConsumer, predecessor: Predecessor) -> None:
        self._consumer = consumer
        self._predecessor = predecessor

    async def committed(self, place: TopicPartition) -> int | None:
        offset = await self._consumer.committed(place)
        await self._predecessor.commit()
        return None if offset is None else int(offset)

    def __getattr__(self, name: str) -> object:
        return getattr(self._consumer, name)


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    await send(kafka_settings, [example_end("run", 0) for _ in range(RECORDS)])
    return kafka_settings


@pytest_asyncio.fixture(loop_scope="session")
async def consumer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    async with make_consumer(kafka, group_id=plan(kafka, Board()).group) as consumer:
        yield consumer


@pytest_asyncio.fixture(loop_scope="session")
async def predecessor(kafka: KafkaSettings) -> AsyncIterator[Predecessor]:
    last_owner = Predecessor(kafka, plan(kafka, Board()).group)
    await last_owner.prepare()
    yield last_owner
    await last_owner.stop()


async def test_a_commit_after_the_fence_fails(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, predecessor: Predecessor
) -> None:
    task = await _opened(kafka, consumer)
    await predecessor.commit()

    assert not predecessor.committed
    assert set(task.positions.values()) == {0}
    await _finish(kafka, task)


async def test_a_commit_before_the_fence_counts(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, predecessor: Predecessor
) -> None:
    place = TopicPartition(kafka.topic(INPUT), 0)
    too_early = await consumer.committed(place)
    await predecessor.commit()
    task = await _opened(kafka, consumer)

    assert too_early is None  # what a successor would believe that looks before it fences
    assert predecessor.committed
    assert task.positions == {place: HANDLED_BEFORE}
    await _finish(kafka, task)


async def test_a_commit_in_the_midst_of_opening_loses_and_doubles_nothing(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer, predecessor: Predecessor
) -> None:
    task = await _opened(kafka, Racing(consumer, predecessor))

    await _finish(kafka, task)


async def test_state_is_kept_while_nobody_else_wrote(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer
) -> None:
    board = Board()
    first = await _opened(kafka, consumer, board)
    await first.process((await _input(kafka))[:2])
    dormant = await first.close(10.0, keep=True)
    assert dormant is not None

    again = await _opened(kafka, consumer, board, dormant)
    assert again.handler is first.handler
    assert board.restored == []
    await _finish(kafka, again)


async def test_state_is_restored_when_somebody_else_wrote(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer
) -> None:
    first = await _opened(kafka, consumer)
    await first.process((await _input(kafka))[:2])
    dormant = await first.close(10.0, keep=True)
    other = await _opened(kafka, consumer)
    await other.process((await _input(kafka))[:4])
    await other.close(10.0, keep=False)

    board = Board()
    again = await _opened(kafka, consumer, board, dormant)
    assert again.handler is not first.handler
    assert board.restored == [(0, b"run", b"4")]
    await _finish(kafka, again)


async def test_a_fault_leaves_no_state_behind(kafka: KafkaSettings, consumer: AIOKafkaConsumer) -> None:
    board = Board(failing={0: "on purpose"})
    task = await _opened(kafka, consumer, board)
    with pytest.raises(RuntimeError, match="on purpose"):
        await task.process(await _input(kafka))
    assert await task.close(10.0, keep=True) is None

    await _finish(kafka, await _opened(kafka, consumer))


async def test_a_key_that_only_passed_through_is_not_written(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer
) -> None:
    await send(kafka, [example_end("run", 0, PASSING)])
    task = await _opened(kafka, consumer)
    await task.process(await _input(kafka))
    await task.close(10.0, keep=False)

    assert [record.key for record in await read_all(kafka, CHANGELOG)] == [b"run", POSITIONS_KEY]


async def test_records_that_were_handled_are_passed_over(
    kafka: KafkaSettings, consumer: AIOKafkaConsumer
) -> None:
    task = await _opened(kafka, consumer)
    records = await _input(kafka)
    await task.process(records[:3])
    await task.process(records[1:4])
    await _finish(kafka, task)


async def _opened(
    kafka: KafkaSettings,
    consumer: AIOKafkaConsumer | Racing,
    board: Board | None = None,
    dormant: Dormant | None = None,
) -> Task:
    task = Task(plan(kafka, board or Board()), 0, lambda _task, _error: None)
    await task.open(consumer, dormant)
    return task


async def _input(kafka: KafkaSettings) -> list[ConsumerRecord]:
    return await read_all(kafka, INPUT)


async def _finish(kafka: KafkaSettings, task: Task) -> None:
    """Handle what is left; then every record must have counted once."""
    await task.process([record for record in await _input(kafka) if record.offset < RECORDS])
    await task.close(10.0, keep=False)
    assert numbers(await read_all(kafka, OUTPUT), "run") == list(range(1, RECORDS + 1))
