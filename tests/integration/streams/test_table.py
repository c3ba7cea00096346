"""A compacted topic as a table: whole before work starts, followed, read again on a miss."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from tests.helpers.runs import apply_run
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.streams.admin import apply_topics
from tunestream.streams.client import MissingTopic
from tunestream.streams.publish import EventProducer, Outgoing, write_together
from tunestream.streams.runs import RunDirectory
from tunestream.streams.table import Table

TOPIC = "runs"


@pytest_asyncio.fixture(loop_scope="session")
async def applied(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


def _table(kafka: KafkaSettings) -> Table[str]:
    return Table(kafka, TOPIC, lambda _key, value, _headers: None if value == b"-" else value.decode())


def _record(key: str, value: bytes | None) -> Outgoing:
    return Outgoing(TOPIC, key.encode(), value, [])


async def _write(kafka: KafkaSettings, *records: Outgoing) -> None:
    async with EventProducer(kafka) as producer:
        for record in records:
            await producer.send(record)


async def test_everything_written_before_is_there_when_it_is_entered(applied: KafkaSettings) -> None:
    await _write(applied, *(_record(str(number % 50), b"%d" % number) for number in range(500)))
    async with _table(applied) as table:
        assert sorted(map(int, table.values())) == list(range(450, 500))
        assert table.get(b"7") == "457"


async def test_an_empty_topic_is_no_wait(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        assert list(table.values()) == []


async def test_a_refresh_sees_what_was_committed_before_it(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        for number in range(10):  # each time the end is a transaction's marker, which is no record
            await write_together(applied, "writer", [_record("a", b"%d" % number), _record("b", b"1")])
            await table.refresh()
            assert table.get(b"a") == str(number)


async def test_refreshes_at_the_same_time_all_end(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        await _write(applied, _record("a", b"1"))
        await asyncio.gather(*(table.refresh() for _ in range(20)))
        assert table.get(b"a") == "1"


async def test_tombstones_and_what_is_left_out_disappear(applied: KafkaSettings) -> None:
    await _write(applied, _record("a", b"1"), _record("b", b"1"), _record("c", b"1"), _record("d", None))
    async with _table(applied) as table:
        await _write(applied, _record("a", None), _record("b", b"-"))
        await table.refresh()
        assert list(table.values()) == ["1"]
        assert table.get(b"c") == "1"


async def test_a_missing_topic_is_named(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(MissingTopic, match=kafka_settings.topic(TOPIC)):
        await _table(kafka_settings).__aenter__()


async def test_a_run_directory_follows_the_pointer(applied: KafkaSettings) -> None:
    old = await apply_run(applied, "run")
    async with RunDirectory(applied) as runs:
        assert runs.current_digest("run") == old.digest
        assert runs.current("other") is None
        new = await apply_run(applied, "run", trajectory_builder={"turn_timeout": "7s"})
        await runs.refresh()
        assert runs.current("run") == new
        assert runs.config("run", old.digest) == old
        with pytest.raises(KeyError):
            runs.config("run", "no such digest")


async def test_a_record_that_is_no_run_harms_no_run(applied: KafkaSettings) -> None:
    config = await apply_run(applied, "run")
    key = encode_key("bad", "current")
    kinds = (b"tunestream.run_pointer.v1", b"tunestream.run.v1", b"\xff", None)
    await _write(applied, *(Outgoing(TOPIC, key, b"no JSON", [("ce_type", kind)]) for kind in kinds))
    async with RunDirectory(applied) as runs:
        assert runs.current("run") == config
        assert runs.current("bad") is None
