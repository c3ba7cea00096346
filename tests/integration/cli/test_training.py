"""``tunestream status``, ``jobs``, ``models`` and ``doctor`` on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import Result

from tests.helpers.batches import batch
from tests.helpers.runs import apply_run
from tunestream.artifacts import ArtifactStore, AttemptLog, LogStore
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.keys import encode_key
from tunestream.events.models import Artifact, CurrentModel, ModelStatus, ModelVersion
from tunestream.events.registry import type_of
from tunestream.events.training import (
    JobRecord,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.streams.publish import EncodedRecord, EventProducer
from tunestream.streams.tasks.encoding import partition_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write(settings: KafkaSettings, topic: str, *bodies: tuple[BaseModel, str]) -> None:
    """Write bodies under (run, last part), in the partition of their run, as the trainer does."""

    async def send() -> None:
        async with EventProducer(settings) as producer:
            for body, last in bodies:
                run: str = body.run_id  # type: ignore[attr-defined]
                headers = Envelope(id="x", type=type_of(body), source="/t").to_headers()
                place = partition_for(encode_key(run), settings.partitions)
                value = body.model_dump_json().encode()
                await producer.send(EncodedRecord(topic, encode_key(run, last), value, headers, place))

    asyncio.run(send())


def status(run_id: str, sequence: int, state: TrainingStatusEnum) -> TrainingJobStatus:
    return TrainingJobStatus(
        run_id=run_id,
        backend="trl",
        status=state,
        progress=50.0,
        job_id="job",
        sequence=sequence,
        time=NOW,
        message="step 3",
    )


def job(run_id: str, job_id: str, state: TrainingStatusEnum) -> JobRecord:
    return JobRecord(
        run_id=run_id,
        job_id=job_id,
        batch=batch(run_id),
        backend="trl",
        status=state,
        created=NOW,
        updated=NOW,
    )


def version(run_id: str, name: str, number: int) -> ModelVersion:
    return ModelVersion(
        run_id=run_id,
        version=name,
        number=number,
        base_model="m",
        artifact=Artifact(uri="a", sha256="s", kind="adapter"),
        parent=None,
        job_id="j",
        batch_id="b",
        config_digest="d",
        status=ModelStatus.PROMOTED,
        created=NOW,
    )


RUNNING, DONE = TrainingStatusEnum.RUNNING, TrainingStatusEnum.COMPLETED


def test_statuses_so_far(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    write(
        settings,
        "training.status",
        *((status("a", n, RUNNING), "j") for n in range(2)),
        (status("b", 0, DONE), "j"),
    )
    rows = data("status")
    assert sorted((row["run_id"], row["sequence"]) for row in rows) == [("a", 0), ("a", 1), ("b", 0)]
    assert [row["sequence"] for row in data("status", "--run", "a")] == [0, 1]


def test_follow_prints_a_line_as_each_comes(settings: KafkaSettings) -> None:
    command = [sys.executable, "-m", "tunestream", "status", "--follow", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert "following" in process.stderr.readline()
            write(settings, "training.status", (status("a", 0, RUNNING), "j"))
            assert TrainingJobStatus.model_validate_json(process.stdout.readline()) == status("a", 0, RUNNING)
        finally:
            process.terminate()


def test_jobs_are_the_latest_of_each(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    records = [job("a", "1", RUNNING), job("a", "2", RUNNING), job("a", "1", DONE), job("b", "3", DONE)]
    write(settings, "training.jobs", *((record, record.job_id) for record in records))
    states = {row["job_id"]: row["status"] for row in data("jobs")}
    assert states == {"1": "completed", "2": "running", "3": "completed"}
    assert [row["job_id"] for row in data("jobs", "--run", "a", "--state", "completed")] == ["1"]


def test_models_mark_what_is_current(
    settings: KafkaSettings, data: Callable[..., Any], tunestream: Callable[..., Result]
) -> None:
    pointer = CurrentModel(run_id="a", version="v2", generation=2, previous="v1")
    versions = [(version("a", "v2", 2), "v2"), (version("a", "v1", 1), "v1")]
    write(settings, "models", *versions, (pointer, "current"))
    assert [(row["version"], row["current"]) for row in data("models")] == [("v1", False), ("v2", True)]
    assert tunestream("models").stdout.count("●") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("jobs", "--run", "trainnig"),
        ("jobs", "list", "--run", "trainnig", "--state", "completed"),
        ("jobs", "submit", "--run", "trainnig", "--batch", "b"),
        ("models", "--run", "trainnig"),
        ("models", "serving", "trainnig"),
        ("models", "promote", "trainnig", "v1"),
        ("models", "rollback", "trainnig"),
        ("models", "lineage", "--turn", "e/t", "--run", "trainnig"),
        ("status", "--run", "trainnig"),
    ],
)
def test_a_run_that_does_not_exist_is_told_with_the_names_that_are_near(
    command: tuple[str, ...], settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    asyncio.run(apply_run(settings, "training"))
    result = tunestream(*command)
    assert result.exit_code == 1
    assert "there is no run 'trainnig'" in result.stderr
    assert "Did you mean training?" in result.stderr


def test_a_run_without_jobs_has_none(settings: KafkaSettings, data: Callable[..., Any]) -> None:
    asyncio.run(apply_run(settings, "training"))
    for command in (("jobs",), ("models",), ("status",)):
        assert data(*command, "--run", "training") == []


@pytest.mark.parametrize(
    ("state", "code"),
    [(DONE, 0), (TrainingStatusEnum.FAILED, 1), (TrainingStatusEnum.CANCELED, 4), (RUNNING, 3)],
)
def test_the_exit_code_tells_how_a_job_ended(
    state: TrainingStatusEnum, code: int, settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    write(settings, "training.jobs", (job("a", "12345", state), "12345"))
    assert tunestream("jobs", "wait", "123", "--timeout", 0.3).exit_code == code


def test_the_logs_of_a_job_are_its_statuses_and_what_its_worker_wrote(
    settings: KafkaSettings,
    data: Callable[..., Any],
    tunestream: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNESTREAM_ARTIFACTS", str(tmp_path))
    write(settings, "training.jobs", (job("a", "job", DONE), "job"))
    told = [
        (RUNNING, {"attempt": 1}),
        (RUNNING, {"phase": "training"}),
        (RUNNING, {"attempt": 2}),
        (DONE, {}),
    ]
    statuses = [
        status("a", number, state).model_copy(
            update={"metadata": said_beside, "time": NOW + timedelta(seconds=2 * number)}
        )
        for number, (state, said_beside) in enumerate(told)
    ]
    write(settings, "training.status", (status("b", 0, RUNNING), "j"), *((one, "job") for one in statuses))
    for attempt, seconds in ((1, 1), (2, 5)):
        log = AttemptLog(LogStore(ArtifactStore(str(tmp_path)), "job"), attempt)
        log.append(NOW + timedelta(seconds=seconds), "output", f"[printed] {attempt}")
        log.flush(NOW)

    said = data("jobs", "logs", "job")
    assert [(one["attempt"], one["source"], one["text"]) for one in said] == [
        (1, "status", "running: step 3"),
        (1, "output", "[printed] 1"),
        (2, "status", "running: step 3"),
        (2, "output", "[printed] 2"),
        (2, "status", "completed: step 3"),
    ]
    assert data("jobs", "logs", "job", "--attempt", 2) == said[2:]
    assert data("jobs", "logs", "job", "--attempt", 3) == []
    followed = [
        json.loads(line) for line in tunestream("jobs", "logs", "j", "-f", "--json").stdout.splitlines()
    ]
    assert sorted(followed, key=lambda one: str(one["time"])) == said
    assert followed[-1] == said[-1], "it ends with the job"
    assert "[printed] 1" in tunestream("jobs", "logs", "job").stdout


def test_a_name_that_fits_two_jobs_or_none_is_refused(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    write(settings, "training.jobs", *((job("a", name, DONE), name) for name in ("11", "12")))
    assert "2 jobs begin with 1" in tunestream("jobs", "show", "1").stderr
    assert tunestream("jobs", "show", "3").exit_code == 1
    assert tunestream("jobs", "show", "12").exit_code == 0


@pytest.mark.parametrize("command", ["status", "jobs", "models"])
def test_nothing_yet(command: str, settings: KafkaSettings, data: Callable[..., Any]) -> None:
    assert data(command) == []


def checks(result: Result) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(result.stdout)}


def test_the_doctor_finds_nothing_wrong(settings: KafkaSettings, tunestream: Callable[..., Result]) -> None:
    result = tunestream("doctor", "--json")
    found = checks(result)
    assert found["broker"]["ok"]
    assert found["topics"]["ok"]
    assert found["ttc-collector on ttc.events"]["finding"] == "0 records behind, 0 at work"


def test_the_doctor_finds_records_that_nobody_reads(
    settings: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    write(settings, "trajectories", (status("a", 0, RUNNING), "x"))
    result = tunestream("doctor", "--json")
    found = checks(result)["curriculum-gate on trajectories"]
    assert result.exit_code == 1
    assert found["finding"] == "1 records wait and nobody works"
    assert found["remedy"].startswith("tunestream up --only curriculum_gate")


def test_the_doctor_finds_missing_topics(
    without_topics: KafkaSettings, tunestream: Callable[..., Result]
) -> None:
    result = tunestream("doctor", "--json")
    assert result.exit_code == 1
    assert checks(result)[f"topic {without_topics.topic('runs')}"]["remedy"] == "tunestream topics apply"


def test_the_doctor_without_a_broker(
    monkeypatch: pytest.MonkeyPatch, tunestream: Callable[..., Result]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    result = tunestream("doctor", "--json")
    assert result.exit_code == 3
    assert "tunestream kafka" in checks(result)["broker"]["remedy"]
