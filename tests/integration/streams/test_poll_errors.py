"""A poll that raises loses nothing of the other partitions, and stops only what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord

from tests.helpers.counting import OUTPUT, Board, example_end, numbers, plan, running, send
from tests.helpers.log import read_until
from tests.helpers.surfaces import Fault, until_named
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import apply_topics
from tunestream.streams.fetch.walking import WalkedRecords

BAD = 2
GOOD = (0, 1, 3)


@pytest_asyncio.fixture(loop_scope="session")
async def kafka(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Partitions whose fetches raise when they are read, as the client's did for what it cannot decode."""
    partitions: set[int] = set()
    original = WalkedRecords._unpack_records

    def unpack(self: Any) -> Iterator[ConsumerRecord]:
        for record in original(self):
            if self._tp.partition in partitions:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")
            yield record

    monkeypatch.setattr(WalkedRecords, "_unpack_records", unpack)
    return partitions


FAILED_POLL = Fault(
    health="a poll failed: UnicodeDecodeError: .*no text",
    metric="tunestream_poll_failures_total",
    log=r'(?=.*"poll\.failed").*no text',
    doctor="pair_builder: .*a poll failed: UnicodeDecodeError",
)


def _reached(count: int, *partitions: int) -> Any:
    return lambda found: all(len(numbers(found, f"run{number}")) >= count for number in partitions)


async def _send(kafka: KafkaSettings, count: int, *partitions: int) -> None:
    await send(kafka, [example_end(f"run{number}", number) for _ in range(count) for number in partitions])


async def test_the_records_of_the_other_partitions_are_kept(kafka: KafkaSettings, broken: set[int]) -> None:
    async with running(plan(kafka, Board())):
        await _send(kafka, 1, *GOOD, BAD)
        await read_until(kafka, OUTPUT, _reached(1, *GOOD, BAD))
        broken.add(BAD)
        # In one fetch with what raises, in any order: all of them are there.
        for count in range(2, 22):
            await _send(kafka, 1, *GOOD, BAD)
            if count % 5 == 1:
                await read_until(kafka, OUTPUT, _reached(count, *GOOD))
        broken.clear()
        found = await read_until(kafka, OUTPUT, _reached(21, *GOOD, BAD))
    for number in (*GOOD, BAD):
        assert numbers(found, f"run{number}") == list(range(1, 22))


async def test_nothing_is_read_twice_when_everything_raises(
    kafka: KafkaSettings, broken: set[int], log_lines: list[str]
) -> None:
    broken.update(range(4))
    await _send(kafka, 5, *GOOD, BAD)
    async with running(plan(kafka, Board())) as client:
        await until_named(client, kafka, log_lines, FAILED_POLL)
        broken.difference_update(GOOD)
        await read_until(kafka, OUTPUT, _reached(5, *GOOD))
        broken.clear()
        found = await read_until(kafka, OUTPUT, _reached(5, *GOOD, BAD))
    for number in (*GOOD, BAD):
        assert numbers(found, f"run{number}") == [1, 2, 3, 4, 5]
