"""Batches in, statuses and model versions out: the trainer service with real training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from aiokafka import ConsumerRecord

from tests.helpers import tiny_model
from tests.helpers.deployments import ATTEMPTS
from tests.helpers.log import read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment, ServiceProcess
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.models import CurrentModel, ModelStatus, ModelVersion
from tunestream.events.registry import type_of
from tunestream.events.training import (
    ControlCommand,
    ControlResult,
    CurriculumState,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(600)

COMPLETED, FAILED = TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED
TRAINING = {
    "training_args": {"learning_rate": 3e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8},
    "dpo_args": {"beta": 0.5},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


async def _apply(
    settings: KafkaSettings, run_id: str, model: Path, save_steps: int = 500, **sections: object
) -> RunConfig:
    arguments = TRAINING["training_args"] | {"save_steps": save_steps}
    return await apply_run(
        settings,
        run_id,
        trainer={
            "_type": "trl",
            "model": {"hf_model_ckpt": str(model)},
            "lora": {"r": 4},
            "training": TRAINING | {"training_args": arguments},
        },
        **sections,
    )


def _batch(config: RunConfig, store: ArtifactStore, epoch: int, rows: int = 64) -> TrainingBatch:
    train = put_rows(store, tiny_model.rows(rows, seed=epoch))
    return TrainingBatch(
        run_id=config.run_id,
        batch_id=f"batch-{epoch}",
        config_digest=config.digest,
        objective=Objective.DPO,
        epoch=epoch,
        train=train,
        validation=put_rows(store, tiny_model.rows(32, seed=1000)),
        groups=rows,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=[],
    )


async def _send(settings: KafkaSettings, *bodies: Wire) -> None:
    names = {TrainingBatch: "training.batches", ControlCommand: "training.control"}
    async with EventProducer(settings) as producer:
        for number, body in enumerate(bodies):
            envelope = Envelope(id=str(number), type=type_of(body), source="/tests", time=1)
            run = getattr(body, "run_id", "")
            await producer.send(event_record(names[type(body)], (run,), body.to_json(), envelope))


def _statuses(records: list[ConsumerRecord]) -> list[TrainingJobStatus]:
    return [TrainingJobStatus.model_validate_json(record.value) for record in records]


def _ended(count: int) -> Callable[[list[ConsumerRecord]], bool]:
    def enough(records: list[ConsumerRecord]) -> bool:
        ends = {COMPLETED, FAILED, TrainingStatusEnum.CANCELED}
        return sum(status.status in ends for status in _statuses(records)) >= count

    return enough


async def _models(
    settings: KafkaSettings, run: str | None = None
) -> tuple[list[ModelVersion], list[CurrentModel]]:
    """Return the latest record of each version, and every pointer, of all runs or of one."""
    records = await read_all(settings, "models", run=run)
    versions = [r.value for r in records if dict(r.headers)["ce_type"] == type_of(ModelVersion).encode()]
    pointers = [r.value for r in records if dict(r.headers)["ce_type"] == type_of(CurrentModel).encode()]
    latest = {one.version: one for one in map(ModelVersion.model_validate_json, versions)}
    return (
        list(latest.values()),
        [CurrentModel.model_validate_json(value) for value in pointers],
    )


async def test_each_batch_trains_once_from_the_version_before(deployment: Deployment, model: Path) -> None:
    kafka, store, run = deployment.kafka, deployment.store, "trained-once"
    config = await _apply(kafka, run, model)
    first, second = _batch(config, store, 0), _batch(config, store, 1)
    unusable = _batch(config, store, 2).model_copy(
        update={"train": first.train.model_copy(update={"sha256": "0" * 64})}
    )
    await _send(kafka, first, first, second, first, unusable)
    statuses = _statuses(await read_until(kafka, "training.status", _ended(3), run=run))
    by_job: dict[str, list[TrainingJobStatus]] = {}
    for status in statuses:
        by_job.setdefault(status.job_id, []).append(status)
    assert len(by_job) == 3
    for told in by_job.values():
        assert [status.sequence for status in told] == list(range(len(told)))
        progress = [status.progress or 0.0 for status in told]
        assert progress == sorted(progress)
    ends = [told[-1] for told in by_job.values()]
    assert [end.status for end in ends] == [COMPLETED, COMPLETED, FAILED]
    assert "sha256" in (ends[2].message or "")
    versions, pointers = await _models(kafka, run)
    assert [version.number for version in versions] == [1, 2]
    assert versions[1].parent == versions[0].version
    assert [(pointer.version, pointer.generation) for pointer in pointers] == [
        (versions[0].version, 1),
        (versions[1].version, 2),
    ]
    metrics = versions[1].metrics
    assert metrics["validation_accuracy_after"] > versions[0].metrics["validation_accuracy_before"]

    async def answer(**fields: object) -> ControlResult:
        command = ControlCommand.model_validate({"run_id": run, "command_id": str(fields), **fields})
        await _send(kafka, command)
        found = await read_until(
            kafka,
            "training.control.results",
            lambda records: any(str(fields) in _command(record) for record in records),
            run=run,
        )
        return ControlResult.model_validate_json(found[-1].value)

    refused = await answer(action="rollback", expected_generation=1)
    assert not refused.accepted
    assert "generation is 2" in refused.reason
    taken = await answer(action="rollback", expected_generation=2)
    assert (taken.accepted, taken.generation) == (True, 3)
    _, pointers = await _models(kafka, run)
    assert pointers[-1].version == versions[0].version


def _command(record: ConsumerRecord) -> str:
    return ControlResult.model_validate_json(record.value).command_id


async def test_a_killed_job_resumes_to_the_weights_of_an_undisturbed_one(
    deployment: Deployment, model: Path
) -> None:
    kafka, store, trainer = deployment.kafka, deployment.store, deployment.services["trainer"]
    told: dict[str, list[TrainingJobStatus]] = {}
    for victim in ("nobody", "worker", "service"):
        run = f"killed-{victim}"
        config = await _apply(kafka, run, model, save_steps=4)
        await _send(kafka, _batch(config, store, 0, rows=192))
        await read_until(kafka, "training.status", _checkpointed, run=run)
        await _kill(trainer, victim)
        told[run] = _statuses(await read_until(kafka, "training.status", _ended(1), run=run))
    assert {statuses[-1].status for statuses in told.values()} == {COMPLETED}
    attempts = {run: _attempts(statuses) for run, statuses in told.items()}
    assert attempts == {"killed-nobody": [1], "killed-worker": [1, 2], "killed-service": [1, 2]}
    said = [status.message or "" for status in told["killed-worker"]]
    assert any("attempt 1 broke off: the worker was killed" in message for message in said)
    versions = [version for run in told for version in (await _models(kafka, run))[0]]
    assert len(versions) == len(told)
    assert len({version.artifact.sha256 for version in versions}) == 1


def _attempts(statuses: list[TrainingJobStatus]) -> list[int]:
    metadata = [status.metadata or {} for status in statuses]
    return [one["attempt"] for one in metadata if "attempt" in one]


def _checkpointed(records: list[ConsumerRecord]) -> bool:
    return any((status.metadata or {}).get("checkpoint", 0) > 0 for status in _statuses(records))


async def _kill(trainer: ServiceProcess, victim: str) -> None:
    assert trainer.process is not None
    if victim == "service":
        trainer.kill()
        trainer.start()
        await trainer.ready()
    elif victim == "worker":
        children = psutil.Process(trainer.process.pid).children(recursive=True)
        (worker,) = [one for one in children if "tunestream.trainers.worker.main" in " ".join(one.cmdline())]
        worker.kill()


async def test_a_store_that_is_away_is_asked_again(deployment: Deployment, model: Path) -> None:
    kafka, store, run = deployment.kafka, deployment.store, "store-away"
    batch = _batch(await _apply(kafka, run, model), store, 0, rows=8)
    away = batch.train.model_copy(update={"uri": "artifact://objects/no-folder/train"})
    (deployment.folder / "artifacts" / "objects" / "no-folder").touch()
    await _send(kafka, batch.model_copy(update={"train": away}))
    statuses = _statuses(await read_until(kafka, "training.status", _ended(1), run=run))
    end = statuses[-1]
    assert (end.status, (end.metadata or {}).get("reason")) == (FAILED, "store_unreachable")
    broken = [one for one in statuses if (one.metadata or {}).get("broken_by") == "store_unreachable"]
    attempts = list(range(1, ATTEMPTS + 1))
    assert [one.metadata and one.metadata["broken_attempt"] for one in broken] == attempts
    assert (broken[0].message or "").startswith("attempt 1 broke off: ")
    before = ", ".join(f"attempt {number} as store_unreachable" for number in attempts[:-1])
    assert (end.message or "").endswith(f"(broken off before: {before})")


async def test_a_poisoned_batch_makes_a_version_that_is_not_promoted(
    deployment: Deployment, model: Path
) -> None:
    kafka, store, run = deployment.kafka, deployment.store, "poisoned"
    config = await _apply(kafka, run, model)
    good, poisoned = _batch(config, store, 0, rows=192), _batch(config, store, 1)
    flipped = [
        row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen})
        for row in tiny_model.rows(192, seed=1)
    ]
    # Its held-out rows are poisoned as well: they must not speak for it, nor against what comes after it.
    part = put_rows(store, flipped)
    poisoned = poisoned.model_copy(update={"train": part, "validation": part})
    await _send(kafka, good, poisoned, _batch(config, store, 2, rows=16))
    statuses = _statuses(await read_until(kafka, "training.status", _ended(3), run=run))
    found, pointers = await _models(kafka, run)
    versions = sorted(found, key=lambda version: version.created)
    assert [version.status for version in versions] == [
        ModelStatus.RETIRED,
        ModelStatus.REJECTED,
        ModelStatus.PROMOTED,
    ]
    assert [pointer.version for pointer in pointers] == [versions[0].version, versions[2].version]
    assert versions[2].parent == versions[0].version
    verdicts = [version.evaluation for version in versions]
    assert verdicts[0] is not None
    assert verdicts[0].verdict == "unevaluated", "there were no earlier rows"
    assert verdicts[1] is not None
    assert (verdicts[1].verdict, verdicts[1].items) == ("rejected", 32)
    assert verdicts[1].high is not None
    assert verdicts[1].high < 0
    assert verdicts[2] is not None
    assert (verdicts[2].verdict, verdicts[2].items) == ("promoted", 32)
    ends = [status for status in statuses if status.status is COMPLETED]
    told = [(status.metadata or {})["model_status"] for status in ends]
    assert told == ["promoted", "rejected", "promoted"]
    assert "rejected: preferences -" in (ends[1].message or "")
