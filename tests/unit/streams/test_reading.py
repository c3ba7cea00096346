"""Reading topics that the services write, where others wrote as well."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import ConsumerRecord

from tests.helpers.inbound import consumed
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.runs import RunPointer
from tunestream.streams.fetch.undecodable import Undecodable
from tunestream.streams.reading import stored_events

GOOD = RunPointer(run_id="r", digest="d")
HEADERS = Envelope(id="1", type=type_of(GOOD), source="/x", time=1).to_headers()


async def bodies(records: Sequence[ConsumerRecord]) -> list[object]:
    async def given() -> AsyncIterator[ConsumerRecord]:
        for record in records:
            yield record

    return [stored.body async for stored in stored_events(given())]


async def test_a_record_that_cannot_be_read_takes_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = consumed("runs", GOOD.to_json(), headers=HEADERS)
    garbage = [
        consumed("runs", b"garbage", headers=HEADERS),
        consumed("runs", GOOD.to_json(), headers=[]),
        consumed("runs", b"{}", headers=HEADERS),
        Undecodable.of_record(good, b"raw", "the name of its header 1 is not UTF-8"),
    ]
    with caplog.at_level(logging.WARNING):
        assert await bodies([good, *garbage, good]) == [GOOD, GOOD]
    assert sum("cannot be read" in line for line in caplog.messages) == len(garbage)
