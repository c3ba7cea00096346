"""``tunestream publish`` on a real broker."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from typer.testing import Result

from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import decode_key
from tunestream.streams.reading import RecordReader

NATIVE: list[dict[str, object]] = [
    {
        "run_id": "old",
        "example_id": "e",
        "turn_id": "t",
        "candidate_id": "c",
        "prompt": "p",
        "response": "a",
        "score": 1,
    },
    {"example_id": "e", "turn_id": "t"},
    {"example_id": "e"},
    {"example_id": "e", "episode_id": "x", "items": [{"role": "user", "content": "hi"}], "reward": 1},
]
NAT = {
    "example_id": 7,
    "step": {
        "payload": {"event_type": "TTC_END", "event_timestamp": 1767323045.678, "UUID": "u", "extra": 1}
    },
}


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def events(settings: KafkaSettings) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        async with RecordReader(settings, "ttc.events", from_beginning=True) as reader:
            return [record async for record in reader.to_end()]

    return asyncio.run(read())


def kind(record: ConsumerRecord) -> str:
    return Envelope.from_headers(record.headers).type


def test_native_lines_go_to_the_run(
    settings: KafkaSettings, tmp_path: Path, data: Callable[..., Any]
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines(*NATIVE) + b"\n")
    assert data("publish", file, "--run", "new")["events"] == 4
    records = events(settings)
    assert [kind(record) for record in records] == [
        "tunestream.ttc.candidate.v1",
        "tunestream.ttc.turn_end.v1",
        "tunestream.ttc.example_end.v1",
        "tunestream.ttc.episode.v1",
    ]
    assert {decode_key(record.key) for record in records} == {("new", "e")}
    assert json.loads(records[0].value)["run_id"] == "new"


@pytest.mark.parametrize("restamp", [False, True])
def test_steps_keep_their_time_unless_restamped(
    restamp: bool, settings: KafkaSettings, tmp_path: Path, data: Callable[..., Any]
) -> None:
    file = tmp_path / "steps.jsonl.gz"
    file.write_bytes(gzip.compress(lines(NAT)))
    data("publish", file, "--run", "r", "--format", "nat", *(["--restamp"] if restamp else []))
    (record,) = events(settings)
    envelope = Envelope.from_headers(record.headers)
    assert json.loads(record.value) == NAT["step"]
    assert envelope.extensions == {"tsrun": "r", "tsexample": "7"}
    assert (envelope.time == 1_767_323_045_678) is not restamp


def test_stdin_and_the_same_again_has_the_same_id(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    for _ in range(2):
        data("publish", "-", "--run", "r", "--format", "nat", input=lines(NAT))
    assert len({Envelope.from_headers(record.headers).id for record in events(settings)}) == 1


def test_a_bad_line_is_named_and_those_before_it_are_published(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    bad = NATIVE[0] | {"score": "high"}
    result = tunestream("publish", "-", "--run", "r", input=lines(NATIVE[0], bad, NATIVE[2]))
    assert result.exit_code == 1
    assert "-:2: score" in result.stderr
    assert len(events(settings)) == 1


def test_dry_run_publishes_nothing(settings: KafkaSettings, tunestream: Callable[..., Result]) -> None:
    result = tunestream("publish", "-", "--run", "r", "--dry-run", input=lines(*NATIVE))
    assert "4 events would be published" in result.stderr
    assert events(settings) == []


def test_steps_need_a_run(tunestream: Callable[..., Result]) -> None:
    assert tunestream("publish", "-", "--format", "nat", input=b"").exit_code == 2
