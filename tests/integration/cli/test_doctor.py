"""``tunestream doctor`` on a real broker: each thing that is wrong, with its remedy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from typer.testing import Result

from tests.helpers.batches import batch
from tests.helpers.letters import write_letters
from tests.helpers.runs import apply_run
from tests.helpers.services import free_port
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.training import (
    JobRecord,
    TrainingStatusEnum,
)
from tunestream.streams.atomic import write_together
from tunestream.streams.broker.groups import GroupLag, group_lags
from tunestream.streams.publish import EncodedRecord, event_record

Command = Callable[..., Result]
NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which nothing runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESTREAM_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path


def examined(tunestream: Command, *arguments: object, code: int = 1) -> dict[str, dict[str, Any]]:
    done = tunestream("doctor", *arguments, "--json")
    assert done.exit_code == code, done.output
    found: dict[str, dict[str, Any]] = {row["name"]: row for row in json.loads(done.stdout)}
    for row in found.values():
        assert row["ok"] is {"ok": True, "warn": None, "fail": False}[row["state"]]
        assert row["remedy"] or row["state"] != "fail"
    return found


def failed_job(run_id: str) -> JobRecord:
    failed = TrainingStatusEnum.FAILED
    message = "no GPU"
    return JobRecord(
        run_id=run_id,
        job_id="job",
        batch=batch(run_id),
        backend="trl",
        status=failed,
        created=NOW,
        updated=NOW,
        message=message,
    )


async def spoil(settings: KafkaSettings) -> None:
    """Apply a run that cannot train and has a server that is away; have a job fail and a record refused."""
    await apply_run(
        settings,
        "r",
        trainer={"_type": "trl", "model": {"hf_model_ckpt": "./none"}},
        serving=[{"url": f"http://127.0.0.1:{free_port()}"}],
    )
    job = failed_job("r")
    envelope = Envelope(id="j", type="tunestream.job.v1", source="/t", time=1)
    record = event_record("training.jobs", ("r", "job"), job.to_json(), envelope)
    await write_together(settings, "spoil", [record])
    await write_letters(settings, ["unknown_run"])


def test_everything_that_is_wrong_is_named(
    settings: KafkaSettings, tunestream: Command, folder: Path
) -> None:
    asyncio.run(spoil(settings))
    (folder / "artifacts").write_text("a file where a folder should be")
    found = examined(tunestream)
    assert found["broker"]["finding"].startswith("Kafka 4.3 (metadata.version 30)")
    assert found["topics"]["ok"]
    wrong = {name for name, row in found.items() if row["state"] == "fail" and name != "disk"}
    server = next(name for name in found if name.startswith("model server"))
    assert wrong >= {"services", "artifact store", "dead letters of ttc.events", "jobs of r"}
    assert found["dead letters of ttc.events"]["remedy"].endswith("--reason unknown_run --since 1h")
    assert "job: no GPU" in found["jobs of r"]["finding"]
    assert found["base model of r"]["finding"].startswith("on this machine there is no folder ./none")
    assert "no version is promoted" in found[server]["finding"] or "no answer" in found[server]["finding"]


def test_no_broker_is_exit_code_3_and_the_machine_is_looked_at_all_the_same(tunestream: Command) -> None:
    servers = f"127.0.0.1:{free_port()}"
    found = examined(tunestream, "--brokers", servers, code=3)
    assert "connection was refused" in found["broker"]["finding"]
    assert "tunestream up" in found["broker"]["remedy"]
    assert found["artifact store"]["ok"]


def test_missing_topics_are_named(without_topics: KafkaSettings, tunestream: Command) -> None:
    found = examined(tunestream)
    name = f"topic {without_topics.topic('runs')}"
    assert (found[name]["state"], found[name]["remedy"]) == ("fail", "tunestream topics apply")


async def _trainer(settings: KafkaSettings) -> AIOKafkaConsumer:
    """A member of the trainer's group, who has its partitions and does nothing."""
    member = AIOKafkaConsumer(
        settings.topic("training.control"),
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.topic("trainer"),
        enable_auto_commit=False,
    )
    await member.start()
    return member


async def _look(settings: KafkaSettings) -> GroupLag:
    (found,) = await group_lags(settings, {"trainer": ("training.control",)})
    return found


async def test_what_waits_is_records_not_the_markers_of_transactions(settings: KafkaSettings) -> None:
    await write_together(settings, "agent", [EncodedRecord("training.control", b"r", b"{}", [])])
    member = await _trainer(settings)
    try:
        before = await _look(settings)
        assert (before.lag, before.members, before.handled) == (2, 1, 0)
        at = next(place for place, end in (await member.end_offsets(member.assignment())).items() if end)
        assert isinstance(at, TopicPartition)
        await member.commit({at: 1})
        after = await _look(settings)
        assert (after.lag, after.handled) == (0, 1)
    finally:
        await member.stop()


def test_lag_without_progress_is_named(settings: KafkaSettings, tunestream: Command) -> None:
    async def stalled() -> dict[str, dict[str, Any]]:
        await write_together(settings, "agent", [EncodedRecord("training.control", b"r", b"{}", [])])
        member = await _trainer(settings)
        try:
            return await asyncio.to_thread(examined, tunestream)
        finally:
            await member.stop()

    found = asyncio.run(stalled())
    row = found["trainer on training.control"]
    assert row["state"] == "fail"
    assert "none was handled within" in row["finding"]
    assert found["trainer"]["finding"].startswith("1 at work")
