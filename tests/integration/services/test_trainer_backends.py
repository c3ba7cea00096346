"""Backends beside TRL, through the trainer service: a NeMo Customizer over HTTP, and one of somebody else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from tests.helpers import tiny_model
from tests.helpers.fake_nemo import ENDLESS, FakeNeMo, nemo_config, step
from tests.helpers.log import bodies_of, read_until
from tests.helpers.runs import apply_run, run_config
from tests.helpers.services import ServiceProcess
from tests.helpers.trainer_plugin import install_trainer, training_command
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.cli import app
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import job_id
from tunestream.events.models import ModelStatus, ModelVersion
from tunestream.events.registry import type_of
from tunestream.events.training import (
    ControlCommand,
    CurriculumState,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.streams import runs
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(600)

RUNNING, COMPLETED, FAILED, CANCELED = (
    TrainingStatusEnum.RUNNING,
    TrainingStatusEnum.COMPLETED,
    TrainingStatusEnum.FAILED,
    TrainingStatusEnum.CANCELED,
)
IMPATIENT = {
    "TUNESTREAM_NEMO_ATTEMPTS": "1",
    "TUNESTREAM_TRAINER_ATTEMPT_DELAY_SECONDS": "0.05",
    "TUNESTREAM_TRAINER_MAX_ATTEMPTS": "2",
}
TRAINED = [step("running", 40.0), step("completed", 100.0)]


@dataclass
class Site:
    """A trainer, its broker, and the NeMo services that it reaches."""

    kafka: KafkaSettings
    trainer: ServiceProcess
    nemo: FakeNeMo

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.trainer.folder / "artifacts"))

    async def train(self, run_id: str, section: dict[str, Any] | None = None) -> str:
        """Send a batch of a new run, by default of NeMo's; return its job."""
        section = section or nemo_config(self.nemo).model_dump(mode="json")
        return await self.train_by(await apply_run(self.kafka, run_id, trainer=section))

    async def train_by(self, config: RunConfig) -> str:
        """Send a batch of a run that was applied; return its job."""
        run_id = config.run_id
        batch = TrainingBatch(
            run_id=run_id,
            batch_id="batch",
            config_digest=config.digest,
            objective=Objective.DPO,
            epoch=0,
            train=put_rows(self.store, tiny_model.rows(16)),
            validation=None,
            groups=16,
            curriculum=CurriculumState(current_percentile=1.0),
            policy_versions=[],
        )
        await self.send("training.batches", run_id, batch)
        return job_id(run_id, "batch")

    async def send(self, topic: str, run_id: str, body: Wire) -> None:
        async with EventProducer(self.kafka) as producer:
            envelope = Envelope(id=uuid4().hex, type=type_of(body), source="/tests", time=1)
            await producer.send(event_record(topic, (run_id,), body.to_json(), envelope))

    async def until(self, job: str, reached: Callable[[TrainingJobStatus], bool]) -> list[TrainingJobStatus]:
        """Wait for a status of a job; return all of them."""

        def told(records: list[Any]) -> list[TrainingJobStatus]:
            statuses = [TrainingJobStatus.model_validate_json(record.value) for record in records]
            return [status for status in statuses if status.job_id == job]

        records = await read_until(
            self.kafka, "training.status", lambda records: any(map(reached, told(records)))
        )
        return told(records)

    async def ended(self, job: str) -> list[TrainingJobStatus]:
        return await self.until(job, lambda status: status.status in {COMPLETED, FAILED, CANCELED})

    async def version(self, job: str) -> ModelVersion:
        bodies = await bodies_of(self.kafka, "models")
        (found,) = [body for body in bodies if isinstance(body, ModelVersion) and body.job_id == job]
        return found

    async def tunestream(self, *arguments: str) -> Result:
        """Run a command line."""
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TUNESTREAM_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "TUNESTREAM_ARTIFACTS": str(self.trainer.folder / "artifacts"),
        }
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)

    def remote(self, job: str) -> list[dict[str, Any]]:
        """The service's jobs for one of ours."""
        jobs = self.nemo.state.jobs.values()
        return [one for one in jobs if one["custom_fields"]["tunestream_job"] == job]


@pytest.fixture(scope="module")
def nemo() -> Iterator[FakeNeMo]:
    fake = FakeNeMo().start()
    yield fake
    fake.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(kafka: str, nemo: FakeNeMo, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    settings = KafkaSettings(bootstrap_servers=kafka, topic_prefix=f"t{uuid4().hex[:10]}.")
    await apply_topics(settings)
    folder: Path = tmp_path_factory.mktemp("site")
    path = os.pathsep.join(install_trainer(folder / "site-packages"))
    async with ServiceProcess("trainer", settings, folder, env=IMPATIENT | {"PYTHONPATH": path}) as trainer:
        yield Site(settings, trainer, nemo)


@pytest.fixture(autouse=True)
def _well(nemo: FakeNeMo) -> None:
    """Forget the requests and faults of the test before; what was created stays, as the trainer does."""
    nemo.state.requests, nemo.state.faults = [], []


def attempts(statuses: list[TrainingJobStatus]) -> list[int]:
    return [one.metadata["attempt"] for one in statuses if one.metadata and "attempt" in one.metadata]


async def test_a_remote_job_makes_a_version_that_stays_in_the_service(site: Site) -> None:
    site.nemo.state.script = list(ENDLESS)
    job = await site.train("remote")
    await site.until(job, lambda status: status.progress == 5.0)
    site.remote(job)[0]["script"] = list(TRAINED)
    statuses = await site.ended(job)
    assert statuses[-1].status is COMPLETED, statuses[-1]
    assert [status.sequence for status in statuses] == list(range(len(statuses)))
    (remote,) = site.remote(job)
    assert len(site.nemo.trained_on(remote)) == 16
    version = await site.version(job)
    assert version.artifact.uri.startswith("nemo://games/tunestream-")
    assert (version.artifact.sha256, version.status) == ("", ModelStatus.PROMOTED)
    assert version.base_model == "meta/llama-3.2-1b-instruct@v1.0.0+A100"
    assert version.evaluation is not None
    assert version.evaluation.verdict == "unevaluated"
    shown = await site.tunestream("models", "show", version.version)
    assert version.artifact.uri in shown.stdout
    refused = await site.tunestream("models", "export", version.version, str(site.trainer.folder / "out"))
    assert refused.exit_code == 1
    assert f"stay with the backend that trained them: {version.artifact.uri}" in refused.stderr
    promoted = await site.tunestream("models", "promote", "remote", version.version)
    assert promoted.exit_code == 0, promoted.stderr


async def test_remote_jobs_run_side_by_side_and_are_canceled_where_they_run(site: Site) -> None:
    site.nemo.state.script = list(ENDLESS)
    one, two = [await site.train(run) for run in ("side", "by-side")]
    for job in (one, two):
        await site.until(job, lambda status: status.progress == 5.0)
    await site.send(
        "training.control", "side", ControlCommand(run_id="side", command_id="c", action="cancel", job_id=one)
    )
    assert (await site.ended(one))[-1].status is CANCELED
    async with asyncio.timeout(90):
        while site.remote(one)[0]["status"] != "cancelled":  # noqa: ASYNC110 - the service's own state
            await asyncio.sleep(0.02)
    assert site.nemo.asked(r"POST .*/cancel") == 1
    assert site.remote(two)[0]["status"] == "running"
    site.remote(two)[0]["script"] = list(TRAINED)
    assert (await site.ended(two))[-1].status is COMPLETED


async def test_the_job_of_a_killed_trainer_is_watched_on_and_not_created_again(site: Site) -> None:
    site.nemo.state.script = list(ENDLESS)
    job = await site.train("killed")
    await site.until(job, lambda status: status.progress == 5.0)
    site.trainer.kill()
    site.trainer.start()
    await site.trainer.ready()
    await site.until(job, lambda status: (status.metadata or {}).get("attempt") == 2)
    site.remote(job)[0]["script"] = list(TRAINED)
    statuses = await site.ended(job)
    assert statuses[-1].status is COMPLETED, statuses[-1]
    assert len(site.remote(job)) == 1
    assert site.nemo.asked(r"POST /v1/customization/jobs$") == 1
    assert (await site.version(job)).status is ModelStatus.PROMOTED


@pytest.mark.parametrize(
    ("faults", "end", "tried"),
    [
        ([503], COMPLETED, [1, 2]),
        ([503, 503], FAILED, [1, 2]),
        ([422], FAILED, [1]),
    ],
)
async def test_a_service_that_is_away_is_asked_again_and_one_that_refuses_is_not(
    site: Site, faults: list[int], end: TrainingStatusEnum, tried: list[int]
) -> None:
    site.nemo.state.script = TRAINED
    for fault in faults:
        site.nemo.fail(r"POST /v1/customization/jobs$", fault)
    job = await site.train(f"faults-{'-'.join(map(str, faults))}")
    statuses = await site.ended(job)
    assert (statuses[-1].status, attempts(statuses)) == (end, tried), statuses[-1]
    if end is FAILED:
        reason = (statuses[-1].metadata or {})["reason"]
        assert reason == ("service_refused" if 422 in faults else "service_unreachable")


async def test_a_trainer_of_ones_own_trains_as_its_entry_point_says(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place in install_trainer(tmp_path):
        monkeypatch.syspath_prepend(place)
    job = await site.train("own", {"_type": "command", "command": training_command(tmp_path)})
    statuses = await site.ended(job)
    assert statuses[-1].status is COMPLETED, statuses[-1]
    assert {status.backend for status in statuses} == {"command"}
    version = await site.version(job)
    assert version.status is ModelStatus.PROMOTED
    artifact = version.artifact
    folder = site.store.fetch_directory(artifact.uri, artifact.sha256, tmp_path / "model")
    assert json.loads((folder / "preferences.json").read_text())["rows"] == 16


async def test_a_trainer_that_is_not_installed_fails_its_job(site: Site) -> None:
    section = {"_type": "elsewhere", "objective": "dpo"}
    record = run_config("elsewhere").to_record()
    config = RunConfig.from_record(record.model_copy(update={"config": record.config | {"trainer": section}}))
    await runs.apply_run(site.kafka, config, source="/tests")
    job = await site.train_by(config)
    statuses = await site.ended(job)
    assert (statuses[-1].status, attempts(statuses)) == (FAILED, [])
    assert (statuses[-1].metadata or {})["reason"] == "no_backend"
    assert "_type 'elsewhere' is unknown" in (statuses[-1].message or "")
