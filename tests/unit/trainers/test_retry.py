"""How often another attempt follows one that broke off, and after how long."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.helpers.scripted_backend import ScriptedBackend, fails, finishes, spec_of
from tunestream.trainers import JobSpec, Report, Retry, Stop, TrainingFailed, TrainingResult
from tunestream.trainers.retry import train_with_retries

DIED = TrainingFailed("worker_died", "it was killed")


def test_the_delay_doubles() -> None:
    retry = Retry(max_attempts=4, delay=0.5)
    assert [retry.seconds(broken) for broken in range(4)] == [0.0, 0.5, 1.0, 2.0]
    assert [retry.allows(broken) for broken in range(6)] == [True, True, True, True, False, False]


def test_only_a_fault_of_the_infrastructure_gets_another_attempt() -> None:
    retry = Retry(max_attempts=2)
    assert retry.follows(DIED, 1)
    assert not retry.follows(DIED, 2)
    assert not retry.follows(TrainingFailed("out_of_memory", "too large"), 1)


async def test_each_attempt_has_the_number_that_its_caller_counts(tmp_path: Path) -> None:
    backend = ScriptedBackend(fails("worker_died", "closed", then=finishes()))
    numbers = iter([7, 9])
    failures: list[str] = []

    def next_attempt(failure: TrainingFailed) -> int:
        failures.append(failure.code)
        return next(numbers)

    result = await train_with_retries(
        backend, spec_of(tmp_path, attempt=5), lambda _: None, Retry(delay=0.0), next_attempt
    )
    assert result.message == "made a"
    assert [spec.attempt for spec in backend.specs] == [5, 7, 9]
    assert failures == ["worker_died", "closed"]


async def test_enough_is_enough(tmp_path: Path) -> None:
    backend = ScriptedBackend(fails(*["worker_died"] * 9, then=finishes()))
    with pytest.raises(TrainingFailed, match="as scripted"):
        await train_with_retries(
            backend, spec_of(tmp_path), lambda _: None, Retry(max_attempts=2, delay=0.0), lambda _: 2
        )
    assert len(backend.specs) == 2


async def test_a_stopped_job_gets_no_other_attempt(tmp_path: Path) -> None:
    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise TrainingFailed("service_unreachable", "nobody heard that it is to end")

    backend = ScriptedBackend(script)
    running = asyncio.create_task(
        train_with_retries(backend, spec_of(tmp_path), lambda _: None, Retry(delay=0.0), lambda _: 2)
    )
    await backend.began.wait()
    running.cancel(Stop.CANCELED)
    with pytest.raises(TrainingFailed, match="nobody heard"):
        await running
    assert len(backend.specs) == 1
