"""``tunestream dlq skip``: what cannot be fetched is passed, counted, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from tests.helpers.counting import INPUT, example_end
from tests.helpers.log import header, read_all
from tests.helpers.raw_batches import write_batch
from tests.integration.cli.conftest import Command
from tunestream.config.settings import KafkaSettings
from tunestream.streams.broker.client import make_consumer
from tunestream.streams.fetch.walking import WalkedRecords
from tunestream.streams.letters.dead_letters import DLQ_MESSAGE, DLQ_OFFSET, DLQ_REASON

SERVICE = "pair-builder"
UNREADABLE = range(2, 5)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that begins at one of these offsets raises, whatever the batch is."""
    original = WalkedRecords._unpack_records

    def unpack(self: Any) -> Iterator[ConsumerRecord]:
        for record in original(self):
            if record.partition == 1 and record.offset in UNREADABLE:
                raise ValueError("no batch")
            yield record

    monkeypatch.setattr(WalkedRecords, "_unpack_records", unpack)


async def _write(kafka: KafkaSettings) -> None:
    for count in (2, 3, 1):
        await write_batch(kafka, [example_end("run", 1)] * count)


async def _committed(kafka: KafkaSettings) -> int | None:
    async with make_consumer(kafka, group_id=kafka.topic(SERVICE)) as consumer:
        found: int | None = await consumer.committed(TopicPartition(kafka.topic(INPUT), 1))
        return found


@pytest.mark.usefixtures("unreadable")
def test_the_unreadable_offsets_are_passed_and_counted(
    settings: KafkaSettings, tunestream: Command, data: Callable[..., Any]
) -> None:
    asyncio.run(_write(settings))
    assert tunestream("streams", "seek", SERVICE, INPUT, 1, 0).exit_code == 0

    early = tunestream("dlq", "skip", INPUT, 1, 2)
    assert early.exit_code == 1
    assert "stands at 0, and offset 0 can be read" in " ".join(early.stderr.split())

    assert tunestream("streams", "seek", SERVICE, INPUT, 1, 2).exit_code == 0
    expected = {"service": SERVICE, "topic": INPUT, "partition": 1, "first": 2, "next": 5, "offsets": 3}
    planned = data("dlq", "skip", INPUT, 1, 2, "--dry-run")
    assert planned == expected | {"reason": "ValueError: no batch", "dry_run": True}
    assert asyncio.run(_committed(settings)) == 2

    done = tunestream("dlq", "skip", INPUT, 1, 2)
    assert done.exit_code == 0
    assert "3 offsets of ttc.candidates partition 1 were passed (2 to 4)" in " ".join(done.stderr.split())
    assert asyncio.run(_committed(settings)) == 5
    (letter,) = asyncio.run(read_all(settings, f"{INPUT}.dlq"))
    assert (header(letter, DLQ_REASON), header(letter, DLQ_OFFSET)) == ("undecodable.skipped", "2")
    assert "passed the offsets 2 to 4" in (header(letter, DLQ_MESSAGE) or "")


def test_what_is_not_there_is_refused(settings: KafkaSettings, tunestream: Command) -> None:
    def told(*arguments: object) -> str:
        result = tunestream("dlq", "skip", *arguments)
        assert result.exit_code == 1
        return " ".join(result.stderr.split())

    assert "no service reads 'runs'" in told("runs", 0, 0)
    assert "has no partition 9" in told(INPUT, 9, 0)
    assert "has no position" in told(INPUT, 1, 0)
    assert tunestream("streams", "seek", SERVICE, INPUT, 1, 0).exit_code == 0
    assert "ends at 0" in told(INPUT, 1, 0)
