"""``tunestream dlq`` on a real broker."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from typer.testing import Result

from tunestream.config.settings import KafkaSettings
from tunestream.domain.effects import Refused
from tunestream.events.keys import encode_key
from tunestream.streams.dead_letters import dead_letter_headers
from tunestream.streams.publish import EncodedRecord, EventProducer
from tunestream.streams.reading import RecordReader

ORIGINAL = [
    ("ce_id", b"the-id"),
    ("ce_time", b"2026-01-02T03:04:05.678Z"),
    ("ce_tslogtime", b"1767323045678"),
    ("binary", b"\xff\x00"),
]
BODY = b'{"score": \xff}'


def refuse(settings: KafkaSettings, *codes: str, headers: list[tuple[str, bytes]] = ORIGINAL) -> None:
    """Write dead letters of ``ttc.events`` as the collector does."""

    async def write() -> None:
        async with EventProducer(settings) as producer:
            for code in codes:
                record = ConsumerRecord(
                    topic=settings.topic("ttc.events"),
                    partition=3,
                    offset=17,
                    timestamp=0,
                    timestamp_type=1,
                    key=None,
                    value=None,
                    checksum=None,
                    serialized_key_size=0,
                    serialized_value_size=0,
                    headers=headers,
                )
                told = dead_letter_headers(record, Refused(code, f"because {code}"), "ttc-collector")
                await producer.send(EncodedRecord("ttc.events.dlq", encode_key("run", "e"), BODY, told, 3))

    asyncio.run(write())


def sent_again(settings: KafkaSettings) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        async with RecordReader(settings, "ttc.events", from_beginning=True) as reader:
            return [record async for record in reader.to_end()]

    return asyncio.run(read())


def test_list_and_its_filters(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    refuse(settings, "unknown_run", "schema.missing", "schema.bounds")
    rows = data("dlq", "list")
    assert [(row["letter"], row["reason"], row["replayable"]) for row in rows] == [
        ("ttc.events/3/0", "unknown_run", True),
        ("ttc.events/3/1", "schema.missing", False),
        ("ttc.events/3/2", "schema.bounds", False),
    ]
    assert rows[0]["message"] == "because unknown_run"
    assert len(data("dlq", "list", "--reason", "schema")) == 2
    assert len(data("dlq", "list", "--reason", "schema.bounds", "--run", "run")) == 1
    assert data("dlq", "list", "--topic", "trajectories") == []
    assert data("dlq", "list", "--run", "other") == []


def test_show_keeps_every_byte(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    refuse(settings, "unknown_run")
    letter = data("dlq", "show", "ttc.events/3/0")
    assert b64decode(letter["body_base64"]) == BODY
    assert letter["origin"] == "ttc.events/3/17"
    assert letter["headers"]["binary"] == "\\xff\x00"
    assert not any(name.startswith("ts_dlq_") for name in letter["headers"])


def test_replay_sends_the_original_and_the_broker_gives_it_a_new_time(
    settings: KafkaSettings, data: Callable[..., Any]
) -> None:
    refuse(settings, "unknown_run")
    assert data("dlq", "replay", "ttc.events/3/0")["replayed"] == ["ttc.events/3/0"]
    (record,) = sent_again(settings)
    headers = dict(record.headers)
    assert (record.partition, record.key, record.value) == (3, b"run/e", BODY)
    assert headers["ce_time"] == b"2026-01-02T03:04:05.678Z"
    assert headers["ce_id"] == b"the-id"
    assert headers["binary"] == b"\xff\x00"
    assert headers.keys() == {"ce_id", "ce_time", "binary"}


@pytest.mark.parametrize(
    "code",
    [
        "undecodable.json",
        "schema.missing",
        "unknown_type",
        "non_finite",
        "wrong_key",
        "late",
        "turn_full",
        "contradiction",
    ],
)
def test_final_reasons_are_refused_with_the_why(
    code: str, settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "unknown_run", code)
    for choice in (["ttc.events/3/0", "ttc.events/3/1"], ["--reason", code]):
        result = tunestream("dlq", "replay", *choice)
        assert result.exit_code == 1
        assert f"ttc.events/3/1 is final ({code}): " in result.stderr
    assert sent_again(settings) == []


def test_a_newer_type_is_replayed_as_it_came(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    newer = [*ORIGINAL, ("ce_type", b"tunestream.ttc.candidate.v2")]
    refuse(settings, "newer_type", "unknown_type", headers=newer)
    assert [row["replayable"] for row in data("dlq", "list")] == [True, False]
    assert data("dlq", "replay", "--reason", "newer_type")["replayed"] == ["ttc.events/3/0"]
    assert data("dlq", "replay", "--all")["refused"] == {"unknown_type": 1}
    first, second = sent_again(settings)
    assert (first.key, first.value) == (second.key, second.value) == (b"run/e", BODY)
    assert dict(first.headers)["ce_type"] == b"tunestream.ttc.candidate.v2"
    assert dict(first.headers)["ce_id"] == dict(second.headers)["ce_id"] == b"the-id"


def test_all_leaves_final_ones_out(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    refuse(settings, "unknown_run", "late", "output_too_large")
    report = data("dlq", "replay", "--all")
    assert report["replayed"] == ["ttc.events/3/0", "ttc.events/3/2"]
    assert report["refused"] == {"late": 1}
    assert len(sent_again(settings)) == 2


def test_dry_run_sends_nothing(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    refuse(settings, "unknown_run")
    assert data("dlq", "replay", "--all", "--dry-run")["replayed"] == ["ttc.events/3/0"]
    assert sent_again(settings) == []


def test_replay_needs_a_choice_and_known_letters(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    assert tunestream("dlq", "replay").exit_code == 2
    assert tunestream("dlq", "replay", "ttc.events/0/99").exit_code == 1
    assert tunestream("dlq", "replay", "nothing/0/0").exit_code == 1
