"""A compacted topic as a table: whole before work starts, followed, read again on a miss."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import BaseModel

from tests.helpers.runs import apply_run
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.runs import FormatRecord, RunPointer
from tunestream.streams import table as table_module
from tunestream.streams.admin import apply_topics
from tunestream.streams.atomic import write_together
from tunestream.streams.broker.client import MissingTopic
from tunestream.streams.changelog import absence
from tunestream.streams.changelog.absence import Reading
from tunestream.streams.changelog.tombstones import tombstone_seconds
from tunestream.streams.publish import EncodedRecord, EventProducer
from tunestream.streams.runs import RunDirectory
from tunestream.streams.table import Table

TOPIC = "runs"
_UNREADABLE = {
    "-": ValueError("a digest of -"),
    "deep": RecursionError("too deep"),
    "key": KeyError("no such section"),
    "assertion": AssertionError("another type"),
}


@pytest_asyncio.fixture(loop_scope="session")
async def applied(kafka_settings: KafkaSettings) -> KafkaSettings:
    """Return a deployment whose ``runs`` is empty."""
    await apply_topics(kafka_settings)
    await write_together(kafka_settings, "format", [EncodedRecord(TOPIC, encode_key("format"), None, [])])
    return kafka_settings


def _table(kafka: KafkaSettings) -> Table[str]:
    """Digests of pointers; a digest of :data:`_UNREADABLE` is one that cannot be read."""
    return Table(kafka, TOPIC, _digest)


def _digest(body: BaseModel) -> str:
    if isinstance(body, FormatRecord):
        return ""
    assert isinstance(body, RunPointer)
    if body.digest in _UNREADABLE:
        raise _UNREADABLE[body.digest]
    return body.digest


def _record(key: str, digest: str | None, ce_type: str = "tunestream.run_pointer.v1") -> EncodedRecord:
    value = None if digest is None else RunPointer(run_id=key, digest=digest).to_json()
    headers = Envelope(id="1", type=ce_type, source="/tests").to_headers()
    return EncodedRecord(TOPIC, key.encode(), value, headers)


async def _write(kafka: KafkaSettings, *records: EncodedRecord) -> None:
    async with EventProducer(kafka) as producer:
        for record in records:
            await producer.send(record)


async def test_everything_written_before_is_there_when_it_is_entered(applied: KafkaSettings) -> None:
    await _write(applied, *(_record(str(number % 50), str(number)) for number in range(500)))
    async with _table(applied) as table:
        assert sorted(map(int, table.values())) == list(range(450, 500))
        assert table.get(b"7") == "457"


async def test_an_empty_topic_is_no_wait(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        assert list(table.values()) == []


async def test_a_refresh_sees_what_was_committed_before_it(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        for number in range(10):  # each time the end is a transaction's marker, which is no record
            await write_together(applied, "writer", [_record("a", str(number)), _record("b", "1")])
            await table.refresh()
            assert table.get(b"a") == str(number)


async def test_refreshes_at_the_same_time_all_end(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        await _write(applied, _record("a", "1"))
        await asyncio.gather(*(table.refresh() for _ in range(20)))
        assert table.get(b"a") == "1"


async def test_tombstones_disappear(applied: KafkaSettings) -> None:
    await _write(applied, _record("a", "1"), _record("b", "1"), _record("c", None))
    async with _table(applied) as table:
        await _write(applied, _record("a", None))
        await table.refresh()
        assert list(table.values()) == ["1"]
        assert table.get(b"b") == "1"


@pytest.mark.parametrize("ce_type", ["tunestream.run_pointer.v2", "tunestream.run.v2", "com.example.ping.v1"])
async def test_a_type_that_is_not_known_leaves_its_key_what_it_had(
    applied: KafkaSettings, ce_type: str
) -> None:
    await _write(applied, _record("a", "old"), _record("b", "old"), _record("a", "new", ce_type))
    table = _table(applied)
    skipped: list[str] = []
    table.on_skip(skipped.append)
    async with table:
        assert (table.get(b"a"), table.get(b"b")) == ("old", "old")
        await _write(applied, _record("a", "newer", ce_type), _record("c", "new", ce_type), _record("b", "2"))
        await table.refresh()
        assert (table.get(b"a"), table.get(b"b"), table.get(b"c")) == ("old", "2", None)
        assert skipped == [applied.topic(TOPIC)] * 3
        (warning,) = table.warnings()
        assert "2 keys" in warning
        assert ce_type in warning


async def test_a_warning_ends_with_the_next_record_that_can_be_read(applied: KafkaSettings) -> None:
    await _write(applied, _record("a", "-"), _record("b", "1"), _record("b", "-"))
    async with _table(applied) as table:
        assert (table.get(b"a"), table.get(b"b")) == (None, "1")
        assert len(table.warnings()) == 1
        await _write(applied, _record("a", "2"), _record("b", None))
        await table.refresh()
        assert (table.get(b"a"), table.get(b"b")) == ("2", None)
        assert table.warnings() == []


async def test_a_missing_topic_is_named(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(MissingTopic, match=kafka_settings.topic(TOPIC)):
        await _table(kafka_settings).__aenter__()


async def test_a_run_keeps_its_configuration_when_a_newer_release_writes_another(
    applied: KafkaSettings,
) -> None:
    config = await apply_run(applied, "run")
    newer = Envelope(id="1", type="tunestream.run.v2", source="/tests").to_headers()
    for last in (config.digest, "current"):
        await _write(applied, EncodedRecord(TOPIC, encode_key("run", last), b'{"of": "version 2"}', newer))
    async with RunDirectory(applied, trainer="installed") as runs:
        assert runs.current("run") == config
        assert runs.config("run", config.digest) == config
        assert "2 keys" in runs.warnings()[0]


async def test_a_run_directory_follows_the_pointer(applied: KafkaSettings) -> None:
    old = await apply_run(applied, "run")
    async with RunDirectory(applied, trainer="installed") as runs:
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
    await _write(applied, *(EncodedRecord(TOPIC, key, b"no JSON", [("ce_type", kind)]) for kind in kinds))
    async with RunDirectory(applied, trainer="installed") as runs:
        assert runs.current("run") == config
        assert runs.current("bad") is None


@pytest.mark.parametrize("digest", sorted(_UNREADABLE))
async def test_what_a_record_raises_concerns_its_key_alone(applied: KafkaSettings, digest: str) -> None:
    async with _table(applied) as table:
        await _write(applied, _record("a", "1"), _record("a", digest), _record("b", "1"))
        await table.refresh()
        assert (table.get(b"a"), table.get(b"b")) == ("1", "1")
        assert len(table.warnings()) == 1


async def test_nothing_that_reading_raises_ends_the_follower_or_loses_a_record(
    applied: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that raises has moved past records of other partitions, which nobody has seen."""
    real, failed = AIOKafkaConsumer.getmany, asyncio.Event()
    failed.set()

    async def getmany(consumer: AIOKafkaConsumer, *places: TopicPartition, **options: Any) -> object:
        fetched = await real(consumer, *places, **options)
        if fetched and not failed.is_set():
            failed.set()
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name")
        return fetched

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    await _write(applied, *(_record(str(number), "0") for number in range(20)))
    async with _table(applied) as table:
        failed.clear()
        await _write(applied, *(_record(str(number), "1") for number in range(20)))
        async with asyncio.timeout(90):
            await failed.wait()
        assert any("cannot be read on: UnicodeDecodeError" in line for line in table.warnings())
        await table.refresh()
        assert list(table.values()) == ["1"] * 20
        assert table.warnings() == []


async def test_a_table_is_read_once_for_all_that_asked_at_the_same_time(applied: KafkaSettings) -> None:
    async with _table(applied) as table:
        before, moment = table.refreshes, time.monotonic()
        await asyncio.gather(*(table.refresh_since(moment) for _ in range(20)))
        assert table.refreshes == before + 1
        await table.refresh_since(time.monotonic())
        assert table.refreshes == before + 2


async def test_a_deleted_configuration_ends_the_state_that_was_opened_with_it(
    applied: KafkaSettings,
) -> None:
    config = await apply_run(applied, "run")
    async with RunDirectory(applied, trainer="installed") as runs:
        keys = [encode_key("run", last) for last in (config.digest, "current")]
        await _write(applied, *(EncodedRecord(TOPIC, key, None, []) for key in keys))
        await runs.refresh()
        assert runs.current("run") is None
        assert runs.config("run", config.digest) == config


async def test_a_follower_that_was_away_for_long_forgets_what_the_topic_does_not_hold(
    applied: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tombstone came and went meanwhile: only a second reading shows it."""
    async with EventProducer(applied) as producer:
        await producer.send(_record("kept", "1"))
    async with _table(applied) as table:
        table._values[b"gone"] = "1"
        monkeypatch.setattr(absence, "_LONGEST_MS", -1)  # the next answer of the broker comes too late
        async with asyncio.timeout(90):
            while not table._stale and table._reading is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            monkeypatch.undo()
            while table.get(b"gone") is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert table.get(b"kept") == "1"


async def test_a_reading_that_took_too_long_is_done_again_with_tombstones_kept_longer(
    applied: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have read a value and missed its tombstone, which the cleaner has removed meanwhile."""
    begun: list[Reading] = []

    class Slow(Reading):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            begun.append(self)
            if len(begun) == 1:
                self.progress.began -= 3600
                self.progress.started -= 3600

    monkeypatch.setattr(table_module, "Reading", Slow)
    async with EventProducer(applied) as producer:
        await producer.send(_record("kept", "1"))
    async with _table(applied) as table, asyncio.timeout(90):
        table._values[b"gone"] = "1"
        while table.get(b"gone") is not None or len(begun) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert table.get(b"kept") == "1"
        assert await tombstone_seconds(applied, table.topic) >= 4 * 3600
        assert table.warnings() == []
