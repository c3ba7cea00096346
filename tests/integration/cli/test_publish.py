"""``tunestream publish`` on a real broker."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from typer.testing import Result

from tests.helpers.runs import apply_run
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import decode_key
from tunestream.events.runs import TURN_FORMAT
from tunestream.streams.reading import RecordReader
from tunestream.streams.runs import write_format

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


@pytest.fixture
def applied(settings: KafkaSettings) -> KafkaSettings:
    """A deployment with the runs ``new`` and ``r``."""
    for run in ("new", "r"):
        asyncio.run(apply_run(settings, run))
    return settings


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def events(settings: KafkaSettings) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        async with RecordReader(settings, "ttc.events", from_beginning=True) as reader:
            return [record async for record in reader.to_end()]

    return asyncio.run(read())


def kind(record: ConsumerRecord) -> str:
    return Envelope.from_headers(record.headers).type


def test_native_lines_go_to_the_run(applied: KafkaSettings, tmp_path: Path, data: Callable[..., Any]) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines(*NATIVE) + b"\n")
    assert data("publish", file, "--run", "new")["events"] == 4
    records = events(applied)
    assert [kind(record) for record in records] == [
        "tunestream.ttc.candidate.v1",
        "tunestream.ttc.turn_end.v1",
        "tunestream.ttc.example_end.v1",
        "tunestream.ttc.episode.v1",
    ]
    assert {decode_key(record.key) for record in records} == {("new", "e")}
    assert json.loads(records[0].value)["run_id"] == "new"


def test_so_do_turns_and_scores(applied: KafkaSettings, tmp_path: Path, data: Callable[..., Any]) -> None:
    place = {"example_id": "e", "turn_id": "t"}
    turn = {**place, "prompt": "p", "candidates": [{"candidate_id": "c", "response": "a"}]}
    score = {**place, "candidate_id": "c", "score": 0.5, "source": "ann"}
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines(turn, score))
    assert data("publish", file, "--run", "new")["events"] == 2
    found = Counter(map(kind, events(applied)))
    assert found == {"tunestream.ttc.turn.v1": 1, "tunestream.ttc.score.v1": applied.partitions}


def test_to_a_deployment_that_holds_no_turns_a_turn_goes_as_its_candidates(
    applied: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    asyncio.run(write_format(applied, TURN_FORMAT - 1, source="/tests"))
    place = {"example_id": "e", "turn_id": "t"}
    turn = {**place, "prompt": "p", "candidates": [{"candidate_id": "c", "response": "a", "score": 1}]}
    assert data("publish", "-", "--run", "new", input=lines(turn))["events"] == 1
    sent = ["tunestream.ttc.candidate.v1", "tunestream.ttc.turn_end.v1"]
    assert list(map(kind, events(applied))) == sent
    score = {**place, "candidate_id": "c", "score": 0.5, "source": "ann"}
    result = tunestream("publish", "-", "--run", "new", input=lines(score))
    assert result.exit_code == 1
    assert "-:1: score: this deployment writes format 2" in result.stderr
    assert "tunestream upgrade finish" in result.stderr
    assert list(map(kind, events(applied))) == sent


@pytest.mark.parametrize("restamp", [False, True])
def test_steps_keep_their_time_unless_restamped(
    restamp: bool, applied: KafkaSettings, tmp_path: Path, data: Callable[..., Any]
) -> None:
    file = tmp_path / "steps.jsonl.gz"
    file.write_bytes(gzip.compress(lines(NAT)))
    data("publish", file, "--run", "r", "--format", "nat", *(["--restamp"] if restamp else []))
    (record,) = events(applied)
    envelope = Envelope.from_headers(record.headers)
    assert json.loads(record.value) == NAT["step"]
    assert envelope.extensions == {"tsrun": "r", "tsexample": "7"}
    assert (envelope.time == 1_767_323_045_678) is not restamp


def test_stdin_and_the_same_again_has_the_same_id(applied: KafkaSettings, data: Callable[..., Any]) -> None:
    for _ in range(2):
        data("publish", "-", "--run", "r", "--format", "nat", input=lines(NAT))
    assert len({Envelope.from_headers(record.headers).id for record in events(applied)}) == 1


def test_a_bad_line_is_named_and_those_before_it_are_published(
    applied: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    bad = NATIVE[0] | {"score": "high"}
    result = tunestream("publish", "-", "--run", "r", input=lines(NATIVE[0], bad, NATIVE[2]))
    assert result.exit_code == 1
    assert "-:2: score" in result.stderr
    assert len(events(applied)) == 1


def test_dry_run_publishes_nothing(settings: KafkaSettings, tunestream: Callable[..., Result]) -> None:
    result = tunestream("publish", "-", "--run", "r", "--dry-run", input=lines(*NATIVE))
    assert "4 events would be published" in result.stderr
    assert events(settings) == []


def test_steps_need_a_run(tunestream: Callable[..., Result]) -> None:
    assert tunestream("publish", "-", "--format", "nat", input=b"").exit_code == 2


def test_a_run_that_was_never_applied_is_refused(
    applied: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("publish", "-", "--run", "nwe", input=lines(NATIVE[0]))
    assert result.exit_code == 1
    assert "there is no run 'nwe'" in result.stderr
    assert "Did you mean new?" in result.stderr
    named = [NATIVE[0] | {"run_id": "r"}, NATIVE[0]]
    result = tunestream("publish", "-", input=lines(*named, named[0]))
    assert result.exit_code == 1
    assert "-:2: there is no run 'old'" in result.stderr
    assert len(events(applied)) == 1

    result = tunestream("publish", "-", "--allow-unknown", input=lines(*named, *named))
    assert result.exit_code == 0
    assert result.stderr.count("there is no run 'old'") == 1
    assert len(events(applied)) == 5


def test_progress_is_lines_where_nobody_watches_a_bar(
    applied: KafkaSettings, tmp_path: Path, tunestream: Callable[..., Result]
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines(*({"example_id": str(number)} for number in range(12_500))))
    result = tunestream("publish", file, "--run", "r")
    assert result.exit_code == 0
    shown = [line for line in result.stderr.splitlines() if line.startswith("10,000 events")]
    assert shown == ["10,000 events, 79%"]


@pytest.mark.parametrize(
    ("line", "form", "other"),
    [(NAT, "native", "nat"), (NAT["step"], "native", "nat"), (NATIVE[0], "nat", "native")],
)
def test_a_line_of_the_other_format_is_told(
    line: object, form: str, other: str, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("publish", "-", "--run", "r", "--format", form, "--dry-run", input=lines(line))
    assert result.exit_code == 1
    assert "-:1: " in result.stderr
    assert f"Did you mean --format {other}?" in result.stderr
