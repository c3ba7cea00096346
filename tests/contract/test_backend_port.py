"""What every backend of the port for training does, whatever is behind it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.tiny_model import rows
from tests.helpers.trainer_plugin import install_trainer, training_command
from tests.helpers.training import job_spec, make_config
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.run import RunConfig
from tunestream.events.training import DatasetFile
from tunestream.trainers import (
    Backend,
    Checkpoint,
    JobSpec,
    Progress,
    Stop,
    TrainingFailed,
    TrainingResult,
    find_backend,
    open_backend,
)
from tunestream.trainers.attempt import train_once
from tunestream.trainers.trl.backend import TRLBackend
from tunestream.trainers.worker.handle import WorkerHandle

MISSING = DatasetFile(uri="artifact://objects/none", sha256="0" * 64, rows=1, size=1)


@dataclass
class Subject:
    """A backend under test, and what makes a job that it trains; the job's changes are passed on."""

    backend: Backend
    spec: Callable[..., JobSpec]
    reports: list[Progress | Checkpoint]

    async def train(self, spec: JobSpec) -> TrainingResult:
        return await train_once(self.backend, spec, self.reports.append)


class BackendContract:
    """Inherit it, and provide the fixtures ``subject`` and ``endless``, whose jobs train for long."""

    async def test_it_can_be_asked_again_and_again(self, subject: Subject) -> None:
        await subject.backend.check()
        await subject.backend.check()

    async def test_a_job_makes_a_model(self, subject: Subject) -> None:
        result = await subject.train(subject.spec())
        assert result.rows_used >= 1
        assert result.artifact.uri
        assert TrainingResult.model_validate_json(result.to_json()) == result

    async def test_its_progress_is_typed_and_never_falls(self, subject: Subject) -> None:
        await subject.train(subject.spec())
        progress = [one for one in subject.reports if isinstance(one, Progress)]
        assert progress, "nothing was reported"
        assert all(one.text for one in progress)
        shares = [one.percent for one in progress]
        assert shares == sorted(shares)

    async def test_a_later_attempt_of_a_job_that_was_trained_has_its_result_too(
        self, subject: Subject
    ) -> None:
        spec = subject.spec()
        first = await subject.train(spec)
        again = await subject.train(spec.model_copy(update={"attempt": 2}))
        assert again.rows_used == first.rows_used

    async def test_rows_that_are_gone_are_a_failure_with_a_reason(self, subject: Subject) -> None:
        with pytest.raises(TrainingFailed) as caught:
            await subject.train(subject.spec(train=MISSING, validation=None))
        assert caught.value.code
        assert caught.value.message

    @pytest.mark.parametrize("reason", list(Stop))
    async def test_a_job_that_is_stopped_ends(self, endless: Subject, reason: Stop) -> None:
        reported = asyncio.Event()

        def report(one: Progress | Checkpoint) -> None:
            endless.reports.append(one)
            reported.set()

        task = asyncio.create_task(train_once(endless.backend, endless.spec(), report))
        await asyncio.wait_for(reported.wait(), 240)
        task.cancel(reason)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 240)
        count = len(endless.reports)
        await endless.backend.check()
        assert len(endless.reports) == count, "it reports on"

    async def test_a_job_that_is_stopped_before_it_began_trains_nothing(self, endless: Subject) -> None:
        task = asyncio.create_task(endless.train(endless.spec()))
        task.cancel(Stop.CANCELED)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert endless.reports == []

    async def test_it_trains_on_after_a_job_that_was_stopped(
        self, subject: Subject, endless: Subject
    ) -> None:
        task = asyncio.create_task(endless.train(endless.spec()))
        await asyncio.sleep(0)
        task.cancel(Stop.LOST)
        await asyncio.wait({task})
        assert (await subject.train(subject.spec())).rows_used >= 1

    async def test_closing_can_be_repeated(self, subject: Subject) -> None:
        await subject.train(subject.spec())
        await subject.backend.close()
        await subject.backend.close()


class TestTRL(BackendContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def subject(self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path) -> Subject:
        return _trl(trl_worker, artifacts, tiny_model, epochs=4)

    @pytest_asyncio.fixture(loop_scope="session")
    async def endless(self, trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path) -> Subject:
        return _trl(trl_worker, artifacts, tiny_model, epochs=10_000)

    @pytest.mark.parametrize(
        ("reason", "survives"), [(Stop.CANCELED, True), (Stop.LOST, True), (Stop.SHUTDOWN, False)]
    )
    async def test_its_worker_lives_on_unless_the_process_ends(
        self, endless: Subject, trl_worker: WorkerHandle, reason: Stop, survives: bool
    ) -> None:
        await endless.backend.check()
        before = trl_worker.pid
        reported = asyncio.Event()
        task = asyncio.create_task(train_once(endless.backend, endless.spec(), lambda _: reported.set()))
        await reported.wait()
        task.cancel(reason)
        await asyncio.wait({task})
        assert (trl_worker.pid == before) is survives

    async def test_closing_breaks_off_what_runs(self, endless: Subject) -> None:
        reported = asyncio.Event()
        task = asyncio.create_task(train_once(endless.backend, endless.spec(), lambda _: reported.set()))
        await reported.wait()
        await endless.backend.close()
        with pytest.raises(TrainingFailed) as caught:
            await task
        assert caught.value.code == "closed"

    async def test_jobs_train_in_the_order_in_which_they_come(self, subject: Subject) -> None:
        done: list[int] = []

        async def train(number: int) -> None:
            await subject.train(subject.spec())
            done.append(number)

        await asyncio.gather(*(train(number) for number in range(3)))
        assert done == [0, 1, 2]


def _trl(worker: WorkerHandle, artifacts: ArtifactStore, model: Path, *, epochs: int) -> Subject:
    config = make_config(model, num_train_epochs=epochs)

    def spec(**changes: object) -> JobSpec:
        return job_spec(artifacts, config, **changes)

    return Subject(TRLBackend(worker=worker), spec, [])


class TestExample(BackendContract):
    """The documented example of a backend of one's own."""

    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for place in install_trainer(tmp_path / "site-packages"):
            monkeypatch.syspath_prepend(place)

    @pytest.fixture
    def subject(self, _installed: None, artifacts: ArtifactStore, tmp_path: Path) -> Subject:
        return _command(training_command(tmp_path), artifacts)

    @pytest.fixture
    def endless(self, _installed: None, artifacts: ArtifactStore) -> Subject:
        return _command([sys.executable, "-c", "import time; time.sleep(3600)"], artifacts)


def _command(command: list[str], artifacts: ArtifactStore) -> Subject:
    section = {"_type": "command", "command": command}
    config = RunConfig.model_validate({"run_id": "r", "trainer": section}).trainer
    count = iter(range(1000))

    def spec(**changes: object) -> JobSpec:
        values = {"run_id": "run", "job_id": f"job-{next(count)}", "config": config}
        stored = {"artifacts": artifacts.url, "train": put_rows(artifacts, rows(16))}
        return JobSpec.model_validate({**values, **stored, **changes})

    return Subject(open_backend(find_backend("command"), config, artifacts.url), spec, [])
