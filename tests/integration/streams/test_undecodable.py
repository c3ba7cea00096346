"""What the client cannot decode: it costs itself, ends in the dead letters, and offsets advance once."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from pathlib import Path

import pytest_asyncio
from aiokafka import TopicPartition

from tests.helpers.counting import INPUT, OUTPUT, Board, example_end, numbers, plan, running, until_answer
from tests.helpers.log import header, read_all, read_until
from tests.helpers.raw_batches import BAD_NAME, resealed, write_batch
from tunestream.config.settings import KafkaSettings
from tunestream.events.ids import content_digest
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_consumer, make_transactional_producer
from tunestream.streams.embedded import EmbeddedKafka
from tunestream.streams.fetch.codecs import MAX_BATCH_BYTES
from tunestream.streams.letters.dead_letters import DLQ_MESSAGE, DLQ_OFFSET, DLQ_REASON, DLQ_SHA256, DLQ_URI
from tunestream.streams.publish import EncodedRecord

_RECORDS = 3


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


async def test_a_bomb_costs_itself(kafka: KafkaSettings) -> None:
    """The broker limits what it stores, which is compressed; a kilobyte of it may fill the memory."""
    bomb = EncodedRecord(INPUT, b"k", b"a" * (MAX_BATCH_BYTES + 1), [], 1)
    offset = await write_batch(kafka, [bomb], codec="zstd")
    await write_batch(kafka, [example_end("run", 1)])
    async with running(plan(kafka, Board())):
        await read_until(kafka, OUTPUT, lambda seen: len(numbers(seen, "run")) == 1)
        (letter,) = await read_all(kafka, f"{INPUT}.dlq")
    assert (header(letter, DLQ_REASON), header(letter, DLQ_OFFSET)) == ("undecodable.batch", str(offset))
    assert "more than 64 MiB when decompressed" in (header(letter, DLQ_MESSAGE) or "")
    assert len(letter.value) < 1 << 20


async def test_a_header_name_that_is_not_text_costs_its_record(kafka: KafkaSettings) -> None:
    sent = [example_end("run", 1) for _ in range(5)]
    first = await write_batch(kafka, sent, bad=[1, 4], codec="lz4")
    await write_batch(kafka, [example_end("run", 2)])
    async with running(plan(kafka, Board())):
        found = await read_until(kafka, OUTPUT, lambda seen: len(numbers(seen, "run")) == 4)
    letters = await read_all(kafka, f"{INPUT}.dlq")
    assert sorted(numbers(found, "run")) == [1, 1, 2, 3]
    assert [header(letter, DLQ_OFFSET) for letter in letters] == [str(first + 1), str(first + 4)]
    for letter in letters:
        assert header(letter, DLQ_REASON) == "undecodable.header"
        assert (letter.key, letter.partition) == (b"k", 1)
        assert BAD_NAME in letter.value
        assert sent[0].value in letter.value


def _segment(kafka: EmbeddedKafka, partition: int) -> Path:
    (found,) = kafka.data.rglob(f"{INPUT}-{partition}/00000000000000000000.log")
    return found


def _damage(path: Path, number: int, *, reseal: bool) -> bytes:
    """Damage the batch of this number in a segment and return it as it is then."""
    data, position = bytearray(path.read_bytes()), 0
    for _ in range(number):
        position += 12 + int(struct.unpack_from(">i", data, position + 8)[0])
    end = position + 12 + int(struct.unpack_from(">i", data, position + 8)[0])
    data[position + 70] ^= 0xFF
    if reseal:
        data[position:end] = resealed(data[position:end])
    path.write_bytes(data)
    return bytes(data[position:end])


async def _transaction(kafka: KafkaSettings, run: str, partition: int, *, commit: bool) -> None:
    async with make_transactional_producer(kafka, run) as producer:
        await producer.begin_transaction()
        record = example_end(run, partition)
        await producer.send_and_wait(
            kafka.topic(INPUT), record.value, record.key, partition, headers=list(record.headers)
        )
        await (producer.commit_transaction() if commit else producer.abort_transaction())


async def test_each_costs_itself_and_read_committed_holds(own_kafka: EmbeddedKafka) -> None:
    kafka = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers)
    await apply_topics(kafka)
    for partition in (0, 1):
        for codec in ("none", "zstd", "none"):
            await write_batch(kafka, [example_end("run", partition)] * _RECORDS, codec=codec)
    await _transaction(kafka, "aborted", 2, commit=False)
    await _transaction(kafka, "run", 2, commit=True)
    await asyncio.to_thread(own_kafka.stop)
    damaged = {
        0: _damage(_segment(own_kafka, 0), 1, reseal=True),
        1: _damage(_segment(own_kafka, 1), 2, reseal=False),
    }
    _damage(_segment(own_kafka, 2), 0, reseal=False)
    await asyncio.to_thread(own_kafka.start)
    async with running(plan(kafka, Board())) as client:
        found = await read_until(kafka, OUTPUT, lambda seen: len(numbers(seen, "run")) == 4 * _RECORDS + 1)
        await read_until(kafka, f"{INPUT}.dlq", lambda seen: len(seen) == 2)
        await until_answer(client, "/health/ready", lambda answer: answer.status_code == 200)
        await _until_committed(kafka)
    assert numbers(found, "aborted") == []
    letters = {letter.partition: letter for letter in await read_all(kafka, f"{INPUT}.dlq")}
    assert {number: letter.value for number, letter in letters.items()} == damaged
    assert {header(letter, DLQ_REASON) for letter in letters.values()} == {"undecodable.batch"}
    assert [header(letters[number], DLQ_OFFSET) for number in (0, 1)] == ["3", "6"]


async def _until_committed(kafka: KafkaSettings) -> None:
    places = [TopicPartition(kafka.topic(INPUT), number) for number in (0, 1)]
    group = kafka.topic("pair-builder")
    async with asyncio.timeout(90), make_consumer(kafka, group_id=group) as consumer:
        while [await consumer.committed(place) for place in places] != [3 * _RECORDS] * 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_dead_letter_that_fits_no_topic_has_its_bytes_in_the_store(kafka: KafkaSettings) -> None:
    """Compressed it fitted into its topic; what is refused is what came of it."""
    kept: dict[str, bytes] = {}

    def keep(content: bytes) -> str:
        kept["artifact://objects/aa/aaaa"] = content
        return "artifact://objects/aa/aaaa"

    large = EncodedRecord(INPUT, b"k", b"{" + b" " * (32 << 20), example_end("run", 1).headers, 1)
    await write_batch(kafka, [large], codec="zstd")
    await write_batch(kafka, [example_end("run", 1)])
    async with running(replace(plan(kafka, Board()), keep=keep)):
        await read_until(kafka, OUTPUT, lambda seen: len(numbers(seen, "run")) == 1)
    (letter,) = await read_all(kafka, f"{INPUT}.dlq")
    assert kept == {header(letter, DLQ_URI): large.value}
    assert large.value is not None
    assert large.value.startswith(letter.value)
    assert header(letter, DLQ_SHA256) == content_digest(large.value)
    assert header(letter, DLQ_REASON) == "undecodable.json"
