"""Dead letters sent again, each once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
import pytest_asyncio

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
from tests.helpers.letters import BODY, PARTITION, SOURCE, write_letters
from tests.helpers.log import header, read_all, read_until
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics, delete_before
from tunestream.streams.broker.client import make_transactional_producer
from tunestream.streams.letters.dead_letters import DLQ_REPLAY_FOR
from tunestream.streams.letters.letter import DeadLetter
from tunestream.streams.letters.marks import mark_record
from tunestream.streams.letters.reading import Choice, chosen_letters
from tunestream.streams.letters.replaying import Overtaken, replay
from tunestream.streams.letters.spans import SpanReader
from tunestream.streams.publish import EncodedRecord
from tunestream.topics import INPUTS, dlq_of, topic

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


async def letters(kafka: KafkaSettings) -> list[DeadLetter]:
    return [letter async for letter in chosen_letters(kafka, Choice())]


async def refuse(kafka: KafkaSettings, count: int) -> list[DeadLetter]:
    await write_letters(kafka, [f"unknown_run.{number}" for number in range(count)])
    return await letters(kafka)


async def marked(kafka: KafkaSettings) -> Counter[str]:
    return Counter((record.key or b"").decode() for record in await read_all(kafka, "dlq.marks"))


async def test_a_replay_ends_the_open_transaction_of_one_that_died(kafka: KafkaSettings) -> None:
    found = await refuse(kafka, 3)
    dead = make_transactional_producer(kafka, kafka.topic(f"dlq-replay-{SOURCE}-{PARTITION}"))
    await dead.start()
    await dead.begin_transaction()
    for name in (SOURCE, "dlq.marks"):
        await dead.send_and_wait(kafka.topic(name), b"{}", b"key", partition=PARTITION)

    report = await replay(kafka, found)
    assert report.sent == found
    assert len(await read_all(kafka, SOURCE)) == 3
    assert await marked(kafka) == Counter(letter.name for letter in found)
    await dead.stop()


async def test_marks_behind_an_open_transaction_are_seen(kafka: KafkaSettings) -> None:
    """Another partition's replay may be under way while ours ends: committed marks lie behind its own."""
    found = await refuse(kafka, 2)
    other = make_transactional_producer(kafka, kafka.topic("dlq-replay-other"))
    async with other:
        await other.begin_transaction()
        await other.send_and_wait(kafka.topic("dlq.marks"), b"{}", b"key", partition=PARTITION)
        await send(kafka, [mark_record(letter, NOW) for letter in found])
        second = asyncio.create_task(replay(kafka, found))
        done, _ = await asyncio.wait({second}, timeout=2.0)  # as long as a replay takes that does not wait
        await other.abort_transaction()
        report = await second
    assert not done
    assert report.before == found
    assert await read_all(kafka, SOURCE) == []


async def test_two_replays_at_once_send_each_letter_once(kafka: KafkaSettings) -> None:
    found = await refuse(kafka, 5000)
    reports = await asyncio.gather(*(replay(kafka, found) for _ in range(2)), return_exceptions=True)
    broken = [report for report in reports if isinstance(report, BaseException)]
    assert [error for error in broken if not isinstance(error, Overtaken)] == []
    assert len(broken) < 2
    assert len(await read_all(kafka, SOURCE)) == len(found)
    assert await marked(kafka) == Counter(letter.name for letter in found)


async def test_a_replay_that_is_killed_goes_on_where_it_was(kafka: KafkaSettings) -> None:
    found = await refuse(kafka, 9000)
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    command = (sys.executable, "-m", "tunestream", "dlq", "replay", "--all")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    await read_until(kafka, "dlq.marks", bool)
    process.kill()
    await process.wait()

    report = await replay(kafka, found)
    assert len(report.sent) + len(report.before) == len(found)
    assert len(await read_all(kafka, SOURCE)) == len(found)
    assert await marked(kafka) == Counter(letter.name for letter in found)


async def test_only_the_service_that_refused_a_record_takes_it_again(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INPUTS, "reward", (INPUT,))

    def sent_again(run: str, service: str, value: bytes | None = None) -> EncodedRecord:
        record = example_end(run, 0)
        headers = [*record.headers, (DLQ_REPLAY_FOR, service.encode())]
        return EncodedRecord(INPUT, record.key, value or record.value, headers, 0)

    board = Board()
    records = [
        sent_again("theirs", "reward"),
        sent_again("theirs", "reward", b"not JSON"),
        sent_again("ours", "pair-builder"),
        sent_again("nobodys", "gone"),
        example_end("last", 0),
    ]
    passed_on = 'tunestream_domain_events_total{name="replayed_for_another",service="pair-builder"} 2.0'
    async with running(plan(kafka, board)) as client:
        await send(kafka, records)
        found = await read_until(kafka, OUTPUT, lambda found: numbers(found, "last") == [1])
        # Counted when the transaction has committed, a moment after its output is to be read.
        await until_answer(client, "/metrics", lambda answer: passed_on in answer.text)
    assert [numbers(found, run) for run in ("theirs", "ours", "nobodys")] == [[], [1], [1]]
    assert await read_all(kafka, f"{INPUT}.dlq") == []
    assert board.handlers[0].counts.keys() == {"ours", "nobodys", "last"}


async def test_a_letter_goes_to_its_partition_and_names_the_service(kafka: KafkaSettings) -> None:
    await write_letters(kafka, ["unknown_run"], source=INPUT, partition=1, service="pair-builder")
    await replay(kafka, await letters(kafka))
    (record,) = await read_all(kafka, INPUT)
    assert (record.partition, header(record, DLQ_REPLAY_FOR)) == (1, "pair-builder")


async def test_a_record_that_only_compression_let_in_goes_in_again(kafka: KafkaSettings) -> None:
    """Topics limit what is compressed: without compression it would hold up all letters beside it."""
    body = b'{"prompt": "' + b"more of the same " * 360_000 + b'"}'
    assert len(body) > topic(SOURCE).max_message_bytes
    await write_letters(kafka, ["unknown_run"], body=body)
    await write_letters(kafka, ["unknown_run"])
    found = await letters(kafka)
    report = await replay(kafka, found)
    assert report.sent == found
    assert [record.value for record in await read_all(kafka, SOURCE)] == [body, BODY]


async def test_letters_that_are_deleted_while_they_are_read_are_passed_over(kafka: KafkaSettings) -> None:
    await refuse(kafka, 3)
    queue = kafka.topic(dlq_of(SOURCE))
    async with SpanReader(kafka, [queue]) as reader:
        (span,) = await reader.spans()
        await delete_before(kafka, {span.place: 2})
        assert [record.offset async for record in reader.read(span)] == [2]
        await delete_before(kafka, {span.place: 3})
        assert [record async for record in reader.read(span)] == []
