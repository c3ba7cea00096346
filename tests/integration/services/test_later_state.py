"""State that a later release wrote, with more fields, keys and types than this one knows, stops nobody."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.helpers.log import BATCH, read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tunestream.config.settings import KafkaSettings
from tunestream.events.keys import encode_key
from tunestream.events.ttc import TTCCandidate
from tunestream.sdk import TTCPublisher
from tunestream.streams.admin import apply_topics
from tunestream.streams.broker.client import make_producer
from tunestream.streams.changelog.values import POSITIONS_KEY, unwrap, wrap
from tunestream.streams.tasks.encoding import partition_for
from tunestream.topics import changelog_of

LINE = {
    "ttc_collector": "ttc-collector",
    "pair_builder": "pair-builder",
    "curriculum_gate": "curriculum-gate",
}
LATER = {"of_a_later_release": {"a": [1]}}
EXAMPLES = Path(__file__).parents[3] / "docs" / "wire" / "examples"
_NUMBERS = re.compile(rb"-?\d+( -?\d+)*")


async def test_turns_and_windows_go_on_from_the_state_of_a_later_release(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    await apply_topics(kafka_settings)
    sections = {
        "trajectory_builder": {"turn_timeout": "1h"},
        "batching": {"window_pairs": 2, "min_batch_pairs": 2, "validation_fraction": 0.0},
        "evaluation": {"live": {"every": "1h"}},
    }
    await apply_run(kafka_settings, "run", **sections)
    services = [ServiceProcess(name, kafka_settings, tmp_path) for name in LINE]
    async with together(services):
        await publish(kafka_settings, candidate("closed", 0), candidate("closed", 1), candidate("open", 0))
        await read_until(kafka_settings, changelog_of("curriculum-gate"), holds(b"group/"))
        await read_until(kafka_settings, changelog_of("pair-builder"), holds(b"c/"))
    for name in LINE.values():
        await write_as_a_later_release(kafka_settings, changelog_of(name))

    async with together(services):
        await publish(kafka_settings, candidate("open", 1))
        (record,) = await read_until(kafka_settings, "training.batches", bool, ce_type=BATCH)
    assert json.loads(record.value)["groups"] == 2
    groups = [json.loads(record.value) for record in await read_all(kafka_settings, "trajectories")]
    assert sorted(group["turn_id"] for group in groups if "turn_id" in group) == ["closed", "open"]


async def test_jobs_models_and_live_scores_of_a_later_release_are_restored(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    await apply_topics(kafka_settings)
    examples = [
        json.loads(path.read_text())
        for topic in ("training.jobs", "models")
        for path in sorted((EXAMPLES / topic).glob("*.json"))
    ]
    async with make_producer(kafka_settings) as producer:
        for example in examples:
            run = example["key"].split("/")[0]
            body = later(example["body"])
            partition = partition_for(encode_key(run), kafka_settings.partitions)
            headers = [(name, value.encode()) for name, value in example["headers"].items()]
            name = kafka_settings.topic(example["topic"])
            await producer.send_and_wait(
                name, json.dumps(body).encode(), example["key"].encode(), partition=partition, headers=headers
            )
            unknown = [(name, value) for name, value in headers if name != "ce_type"]
            unknown.append(("ce_type", b"tunestream.of_a_later_release.v1"))
            await producer.send_and_wait(
                name, b'{"x":1}', encode_key(run, "later"), partition=partition, headers=unknown
            )
    async with ServiceProcess("trainer", kafka_settings, tmp_path) as trainer:
        async with asyncio.timeout(90):  # a gauge is set soon after its partition has opened
            while _finished(await trainer.metrics()) != 1.0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _finished(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if 'name="jobs_finished"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def later(document: Any) -> Any:
    """Add a field to every object in a document that is no free-form mapping."""
    if not isinstance(document, dict):
        return document
    fixed = {name: later(value) if name == "batch" else value for name, value in document.items()}
    return fixed | LATER


@asynccontextmanager
async def together(services: list[ServiceProcess]) -> AsyncIterator[None]:
    """Run services, started side by side."""
    async with AsyncExitStack() as stack:
        for service in services:
            service.start()
            stack.push_async_exit(service.__aexit__)
        for service in services:
            await service.ready()
        yield


async def write_as_a_later_release(kafka: KafkaSettings, changelog: str) -> None:
    """Write each live value again with more fields, and a key that no handler knows."""
    records = await read_all(kafka, changelog)
    latest = {(record.partition, record.key): record.value for record in records}
    live = {place: value for place, value in latest.items() if value is not None}
    assert live
    async with make_producer(kafka) as producer:
        for (partition, key), value in live.items():
            changed = wrap(_with_more(key, unwrap(value)), 2)
            await producer.send_and_wait(kafka.topic(changelog), changed, key, partition=partition)
            for unknown in (b"later/run/thing", b"later"):
                await producer.send_and_wait(kafka.topic(changelog), b"\x02?", unknown, partition=partition)


def _with_more(key: bytes, value: bytes) -> bytes:
    if key == POSITIONS_KEY:
        return json.dumps(
            {name: one | {"more": 1} for name, one in json.loads(value).items()} | LATER
        ).encode()
    if value.startswith(b"{"):
        return json.dumps(json.loads(value) | LATER).encode()
    return value + b" 7" if _NUMBERS.fullmatch(value) else value


def holds(prefix: bytes) -> Any:
    return lambda records: any(record.key.startswith(prefix) and record.value for record in records)


async def publish(kafka: KafkaSettings, *candidates: TTCCandidate) -> None:
    async with TTCPublisher(kafka) as publisher:
        for one in candidates:
            await publisher.publish(one)


def candidate(turn: str, index: int) -> TTCCandidate:
    return TTCCandidate(
        run_id="run",
        example_id="example",
        turn_id=turn,
        candidate_id=str(index),
        prompt=f"prompt of {turn}",
        response=f"response {index}",
        score=float(index),
        expected_candidates=2,
    )
