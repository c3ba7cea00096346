"""``tunestream dlq`` on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from aiokafka import ConsumerRecord
from typer.testing import Result

from tests.helpers.letters import BODY, ORIGINAL, write_letters
from tests.helpers.log import read_all
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import format_time
from tunestream.streams.broker.client import make_producer

HOUR = 3_600_000
DAY = 24 * HOUR
# Whole seconds, and young enough that the broker keeps what is of this time.
THEN = time.time_ns() // 1_000_000_000 * 1000 - 2 * DAY


def refuse(settings: KafkaSettings, *codes: str, **how: Any) -> None:
    """Write dead letters of ``ttc.events`` as the collector does."""
    asyncio.run(write_letters(settings, codes, **how))


def read(settings: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    return asyncio.run(read_all(settings, topic))


def sent_again(settings: KafkaSettings) -> list[ConsumerRecord]:
    return read(settings, "ttc.events")


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


def test_letters_are_counted_by_reason_the_most_frequent_first(
    settings: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    assert data("dlq") == []
    refuse(settings, "late", "unknown_run", time=THEN)
    refuse(settings, "unknown_run", partition=1, time=THEN + HOUR)
    refuse(settings, "unknown_run", source="trajectories", run="other", time=THEN)
    data("dlq", "replay", "ttc.events/1/0")
    rows = data("dlq")
    assert [(row["count"], row["topic"], row["reason"]) for row in rows] == [
        (2, "ttc.events", "unknown_run"),
        (1, "trajectories", "unknown_run"),
        (1, "ttc.events", "late"),
    ]
    assert rows[0] | {"count": 2} == {
        "count": 2,
        "topic": "ttc.events",
        "reason": "unknown_run",
        "replayable": True,
        "replayed": 1,
        "first": format_time(THEN),
        "last": format_time(THEN + HOUR),
    }
    assert [row["replayable"] for row in rows] == [True, True, False]
    assert [row["topic"] for row in data("dlq", "--run", "other")] == ["trajectories"]
    assert [row["count"] for row in data("dlq", "--since", format_time(THEN + HOUR))] == [1]
    assert "unknown_run" in tunestream("dlq").stdout


def test_the_list_is_in_order_of_partition_and_offset(
    settings: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "late", "unknown_run", partition=2, time=THEN + HOUR)
    refuse(settings, "unknown_run", partition=0, time=THEN)
    refuse(settings, "unknown_run", source="ttc.candidates", partition=0, time=THEN - HOUR)
    everything = ["ttc.events/0/0", "ttc.events/2/0", "ttc.events/2/1", "ttc.candidates/0/0"]

    def listed(*options: str) -> list[str]:
        return [row["letter"] for row in data("dlq", "list", *options)]

    assert listed() == everything
    assert listed("--limit", "2") == everything[:2]
    assert listed("--limit", "4") == everything
    assert listed("--since", format_time(THEN + 1)) == everything[1:3]
    assert listed("--since", format_time(THEN - DAY)[:10]) == everything
    assert listed("--since", "1h") == []
    assert listed("--since", "3d", "--reason", "late") == ["ttc.events/2/0"]
    result = tunestream("dlq", "list", "--limit", "3")
    assert "There are more than 3." in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["letter", *everything[:3]]
    assert tunestream("dlq", "list", "--since", "yesterday").exit_code == 2


def test_what_was_quoted_of_a_record_stays_on_its_line(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "odd\x1b[31m\ncode")
    (_, line) = tunestream("dlq", "list").stdout.splitlines()
    assert "because odd\\x1b[31m\\ncode" in line


def test_show_keeps_every_byte(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    refuse(settings, "unknown_run")
    letter = data("dlq", "show", "ttc.events/3/0")
    assert b64decode(letter["body_base64"]) == BODY
    assert letter["origin"] == "ttc.events/3/17"
    assert letter["headers"]["binary"] == "\\xff\x00"
    assert not any(name.startswith("ts_dlq_") for name in letter["headers"])


def test_show_gives_the_whole_body_to_a_pipe(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    body = json.dumps({"prompt": "a long one " * 500 + "[bold]\u00e9"}, ensure_ascii=False).encode()
    refuse(settings, "unknown_run", body=body)
    result = tunestream("dlq", "show", "ttc.events/3/0")
    head, _, rest = result.stdout_bytes.partition(b"\n\n")
    assert rest == body + b"\n"
    assert b"because unknown_run" in head


def test_show_draws_the_body_for_a_terminal(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "unknown_run", body=b'{"prompt":"[p]"}')
    with mock.patch("typer.testing._NamedTextIOWrapper.isatty", return_value=True, create=True):
        drawn = tunestream("dlq", "show", "ttc.events/3/0", env={"NO_COLOR": "1", "TERM": "dumb"}).stdout
    assert drawn.endswith('\n{\n  "prompt": "[p]"\n}\n')


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
    assert headers["ts_dlq_replay_for"] == b"ttc-collector"
    assert headers.keys() == {"ce_id", "ce_time", "binary", "ts_dlq_replay_for"}


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
    report = data("dlq", "replay", "--all")
    assert (report["replayed"], report["replayed_before"], report["refused"]) == ([], 1, {"unknown_type": 1})
    (record,) = sent_again(settings)
    assert (record.key, record.value) == (b"run/e", BODY)
    assert dict(record.headers)["ce_type"] == b"tunestream.ttc.candidate.v2"
    assert dict(record.headers)["ce_id"] == b"the-id"


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


def test_what_was_replayed_is_marked_and_not_sent_again(
    settings: KafkaSettings, data: Callable[..., Any]
) -> None:
    refuse(settings, "unknown_run", "output_too_large")
    assert data("dlq", "replay", "ttc.events/3/0")["replayed"] == ["ttc.events/3/0"]
    first, second = data("dlq", "list")
    assert first["replayed"] > first["time"]
    assert second["replayed"] is None
    assert data("dlq", "show", "ttc.events/3/0")["replayed"] == first["replayed"]
    again = data("dlq", "replay", "ttc.events/3/0")
    assert (again["replayed"], again["replayed_before"]) == ([], 1)
    rest = data("dlq", "replay", "--all", "--dry-run")
    assert (rest["replayed"], rest["replayed_before"]) == (["ttc.events/3/1"], 1)
    assert data("dlq", "replay", "--all")["replayed"] == ["ttc.events/3/1"]
    assert len(sent_again(settings)) == 2


def test_purge_deletes_what_is_older_with_its_marks(
    settings: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "unknown_run", "late", time=THEN)
    refuse(settings, "unknown_run", time=THEN + HOUR)
    refuse(settings, "late", time=THEN)  # behind a letter that stays
    refuse(settings, "late", source="trajectories", time=THEN)
    data("dlq", "replay", "ttc.events/3/0", "ttc.events/3/2")
    before = ("--before", format_time(THEN + HOUR))
    refused = tunestream("dlq", "purge", *before)
    assert refused.exit_code == 1
    assert "Delete 3 dead letters" in refused.stderr
    plan = data("dlq", "purge", *before, "--dry-run")
    assert plan["deleted"] == 3
    assert plan["partitions"] == [
        {"topic": "ttc.events", "partition": 3, "end": 2, "letters": 2},
        {"topic": "trajectories", "partition": 3, "end": 1, "letters": 1},
    ]
    assert len(data("dlq", "list")) == 5
    assert data("dlq", "purge", *before, "--topic", "ttc.events", "--yes")["deleted"] == 2
    assert [row["letter"] for row in data("dlq", "list")] == [
        "ttc.events/3/2",
        "ttc.events/3/3",
        "trajectories/3/0",
    ]
    assert [(mark.key, mark.value is None) for mark in read(settings, "dlq.marks")] == [
        (b"ttc.events/3/0", False),
        (b"ttc.events/3/2", False),
        (b"ttc.events/3/0", True),
    ]
    assert data("dlq", "purge", *before, "--topic", "ttc.events", "--yes")["deleted"] == 0
    assert tunestream("dlq", "purge", "--before", "soon", "--yes").exit_code == 2


def test_replay_needs_a_choice_and_known_letters(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    assert tunestream("dlq", "replay").exit_code == 2
    assert tunestream("dlq", "replay", "ttc.events/0/99").exit_code == 1
    assert tunestream("dlq", "replay", "nothing/0/0").exit_code == 1
    assert tunestream("dlq", "show", "ttc.events/zero/0").exit_code == 1


def test_records_that_no_service_wrote_hide_no_others(
    settings: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    refuse(settings, "unknown_run")
    topics = ("ttc.events.dlq", "dlq.marks", "runs", "models", "training.jobs")
    asyncio.run(write_garbage(settings, *topics))
    assert {row["reason"]: row["count"] for row in data("dlq")} == {"unknown_run": 1, "foreign": 1}
    done = data("dlq", "replay", "--all")
    assert (len(sent_again(settings)), len(data("dlq", "list"))) == (1, 2), done
    assert data("jobs", "list") == []
    shown = json.loads(tunestream("doctor", "--json").stdout)
    assert "foreign" in json.dumps(shown)
    assert "cannot be read" not in json.dumps(shown)


async def write_garbage(settings: KafkaSettings, *topics: str) -> None:
    async with make_producer(settings) as producer:
        for topic in topics:
            await producer.send_and_wait(settings.topic(topic), b"garbage", b"\xff", partition=0)
