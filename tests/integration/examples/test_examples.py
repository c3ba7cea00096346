"""The programs of examples/, as README.md and the tutorial show them, against a real broker."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.helpers.log import read_all
from tunestream.config.run.loading import load_run
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import model_of, type_of
from tunestream.events.training import TrainingJobStatus, TrainingStatusEnum
from tunestream.events.turns import TTCTurn
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EncodedRecord, EventProducer, event_record

EXAMPLES = Path(__file__).parents[3] / "examples"
DEADLINE = 180.0
AGENT_LINES, SUBSCRIBER_LINES = 15, 8


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await apply_topics(kafka_settings)
    return kafka_settings


@asynccontextmanager
async def running(name: str, settings: KafkaSettings) -> AsyncIterator[Process]:
    where = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TUNESTREAM_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        "PYTHONUNBUFFERED": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, env=os.environ | where, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_agent_publishes_whole_turns(settings: KafkaSettings) -> None:
    async with asyncio.timeout(DEADLINE), running("agent.py", settings) as agent:
        said, _ = await agent.communicate()
    assert agent.returncode == 0, said.decode()
    bodies = []
    for record in await read_all(settings, "ttc.events"):
        model = model_of(Envelope.from_headers(record.headers).type)
        assert model is not None
        bodies.append(model.model_validate_json(record.value))
    assert Counter(type(body) for body in bodies) == {TTCTurn: 10}
    best = {
        body.example_id: candidate.response
        for body in bodies
        if isinstance(body, TTCTurn)
        for candidate in body.candidates
        if candidate.score == 0
    }
    assert best == {f"sum-{n}": str(2 * n) for n in range(10)}


async def test_the_subscriber_prints_what_happens(settings: KafkaSettings) -> None:
    """Statuses are published until one is printed: the subscriber begins with what comes from now on."""
    async with (
        asyncio.timeout(DEADLINE),
        running("status_subscriber.py", settings) as subscriber,
        EventProducer(settings) as producer,
    ):
        assert subscriber.stdout is not None
        printed = asyncio.create_task(subscriber.stdout.readline())
        while not printed.done():
            await producer.send(status("another"))
            await producer.send(status("sums"))
            await producer.flush()
            await asyncio.wait({printed}, timeout=0.2)
    assert printed.result().decode() == "job-of-s running 12.5 step 2 of 16\n"


def status(run_id: str) -> EncodedRecord:
    body = TrainingJobStatus(
        run_id=run_id,
        backend="trl",
        status=TrainingStatusEnum.RUNNING,
        progress=12.5,
        message="step 2 of 16",
        job_id=f"job-of-{run_id}",
        sequence=1,
        time=datetime.fromtimestamp(0, UTC),
    )
    envelope = Envelope(id=f"{run_id}/1", type=type_of(body), source="/tests", time=0)
    return event_record("training.status", (run_id,), body.to_json(), envelope)


def test_the_run_is_valid_and_the_agents() -> None:
    run = load_run(EXAMPLES / "sums.yaml")
    assert run.notes == ()
    assert f'"{run.config.run_id}"' in (EXAMPLES / "agent.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "most"), [("agent.py", AGENT_LINES), ("status_subscriber.py", SUBSCRIBER_LINES)]
)
def test_examples_are_as_short_as_promised(name: str, most: int) -> None:
    lines = (EXAMPLES / name).read_text("utf-8").splitlines()
    code = [line for line in lines if line.strip() and '"""' not in line]
    assert len(code) <= most


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-agent.md"])
def test_pages_show_the_programs_as_they_are(page: str) -> None:
    text = (EXAMPLES.parent / page).read_text("utf-8")
    for name in ("agent.py", "status_subscriber.py"):
        assert (EXAMPLES / name).read_text("utf-8") in text, name
