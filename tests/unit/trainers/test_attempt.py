"""What every caller of a backend does around it: contain its faults, keep its log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripted_backend import ScriptedBackend, finishes, spec_of
from tunestream.artifacts import ArtifactStore, LogStore
from tunestream.trainers import (
    Checkpoint,
    JobSpec,
    LogLine,
    Progress,
    Report,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    stop_of,
)
from tunestream.trainers.attempt import train_once


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (TrainingFailed("out_of_memory", "too large"), "out_of_memory"),
        (ValueError("not a number"), "backend_error"),
        (RuntimeError("a bug"), "backend_error"),
        (asyncio.CancelledError("a task of its own"), "backend_error"),
    ],
)
async def test_whatever_a_backend_raises_becomes_a_reason(
    tmp_path: Path, raised: BaseException, code: str
) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        raise raised

    with pytest.raises(TrainingFailed) as caught:
        await train_once(ScriptedBackend(script), spec_of(tmp_path), lambda _: None)
    assert caught.value.code == code
    assert str(raised) in caught.value.message


async def test_a_job_that_was_canceled_elsewhere_is_no_fault(tmp_path: Path) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        raise TrainingCanceled("canceled", "by an operator")

    with pytest.raises(TrainingCanceled):
        await train_once(ScriptedBackend(script), spec_of(tmp_path), lambda _: None)


async def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    async def script(_spec: JobSpec, _report: Report) -> Any:
        return {"artifact": "somewhere"}

    with pytest.raises(TrainingFailed, match="no TrainingResult but") as caught:
        await train_once(ScriptedBackend(script), spec_of(tmp_path), lambda _: None)
    assert caught.value.code == "bad_result"


async def test_lines_go_to_the_log_of_the_attempt_and_the_rest_to_the_caller(tmp_path: Path) -> None:
    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        report(LogLine(line="one"))
        report(Progress(percent=50.0))
        report(Checkpoint(step=3))
        report(LogLine(line="two"))
        return await finishes()(spec, report)

    seen: list[Progress | Checkpoint] = []
    spec = spec_of(tmp_path, attempt=2)
    await train_once(ScriptedBackend(script), spec, seen.append)
    assert seen == [Progress(percent=50.0), Checkpoint(step=3)]
    lines = LogStore(ArtifactStore(str(tmp_path)), spec.job_id).read(2)
    assert [line.text for line in lines] == ["one", "two"]


async def test_a_secret_does_not_get_into_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "tiger-secret-4711")

    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        report(LogLine(line="the key is tiger-secret-4711"))
        return await finishes()(spec, report)

    spec = spec_of(tmp_path)
    await train_once(ScriptedBackend(script), spec, lambda _: None)
    (line,) = LogStore(ArtifactStore(str(tmp_path)), spec.job_id).read(1)
    assert line.text.startswith("the key is ")
    assert "4711" not in line.text


async def test_a_store_that_cannot_be_written_costs_lines_only(tmp_path: Path) -> None:
    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        report(LogLine(line="lost"))
        return await finishes()(spec, report)

    (tmp_path / "file").touch()
    spec = spec_of(tmp_path / "file" / "artifacts")
    assert (await train_once(ScriptedBackend(script), spec, lambda _: None)).message == "made a"


async def test_a_backend_without_lines_leaves_no_log(tmp_path: Path) -> None:
    await train_once(ScriptedBackend(finishes()), spec_of(tmp_path), lambda _: None)
    assert not LogStore(ArtifactStore(str(tmp_path)), "job").exist()


@pytest.mark.parametrize("reason", list(Stop))
async def test_a_backend_learns_why_it_is_stopped(tmp_path: Path, reason: Stop) -> None:
    backend = ScriptedBackend()
    task = asyncio.create_task(train_once(backend, spec_of(tmp_path), lambda _: None))
    await backend.began.wait()
    task.cancel(reason)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.stops == [reason]


def test_a_cancellation_without_a_reason_is_the_end_of_the_process() -> None:
    assert stop_of(asyncio.CancelledError()) is Stop.SHUTDOWN
    assert stop_of(asyncio.CancelledError("what?")) is Stop.SHUTDOWN


def test_a_failure_names_the_key_as_it_stands_in_the_users_file() -> None:
    failure = TrainingFailed("model_missing", "there is none", key="model.hf_model_ckpt")
    assert failure.message == str(failure) == "trainer.model.hf_model_ckpt: there is none"
    assert failure.message_in("") == "model.hf_model_ckpt: there is none"
    assert TrainingFailed("internal", "a bug").message_in("") == "a bug"
