"""Whatever kills trainers and their workers: each job ends once, with the weights of an undisturbed one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from aiokafka import ConsumerRecord

from tests.helpers import tiny_model
from tests.helpers.chaos import Cluster, crash
from tests.helpers.log import read_all, read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import ServiceProcess
from tests.helpers.training import result_of
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.cloudevents import Envelope
from tunestream.events.models import Artifact, ModelVersion
from tunestream.events.registry import type_of
from tunestream.events.training import (
    CurriculumState,
    DatasetFile,
    JobRecord,
    Objective,
    TrainingBatch,
    TrainingJobStatus,
    TrainingStatusEnum,
)
from tunestream.streams.admin import apply_topics
from tunestream.streams.embedded import EmbeddedKafka
from tunestream.streams.publish import EventProducer, event_record
from tunestream.trainers import JobSpec
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.settings import WorkerSettings

RUNS = ("red", "green", "blue", "grey")
ROWS = 48
DEADLINE = 3000.0
# About so many statuses of a job; kills come after random numbers of them, so that most hit one that runs.
STATUSES = 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_every_job_ends_once_with_the_weights_of_an_undisturbed_one(
    own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(1 << 32)))
    jobs, kills = int(os.environ.get("SOAK_JOBS", "20")), int(os.environ.get("SOAK_KILLS", "20"))
    print(f"SOAK_SEED={seed} SOAK_JOBS={jobs} SOAK_KILLS={kills}")
    settings = KafkaSettings(bootstrap_servers=own_kafka.bootstrap_servers, topic_prefix="soak.")
    await apply_topics(settings)
    model = tiny_model.write_tiny_model(tmp_path / "tiny")
    configs = [await _apply(settings, run, model) for run in RUNS]
    store = ArtifactStore(str(tmp_path / "artifacts"))
    # Every run gets the same datasets, so that their versions must be the same as well.
    datasets = [put_rows(store, tiny_model.rows(ROWS, seed=seed)) for seed in range(-(-jobs // len(RUNS)))]
    batches = [_batch(config, epoch, data) for epoch, data in enumerate(datasets) for config in configs][
        :jobs
    ]
    undisturbed = asyncio.create_task(_undisturbed(configs[0], store, datasets))

    began = time.monotonic()
    patience = {
        "TUNESTREAM_TRAINER_MAX_ATTEMPTS": "1000",
        "TUNESTREAM_TRAINER_ATTEMPT_DELAY_SECONDS": "1e-9",
        "TUNESTREAM_WORKER_START_TIMEOUT": str(DEADLINE),
        "TUNESTREAM_WORKER_SILENCE_TIMEOUT": "30",
    }
    async with Cluster(settings, tmp_path, ["trainer"], 2, **patience) as cluster:
        await _send(settings, batches)
        killed = await _kill(settings, cluster, random.Random(seed), kills, jobs)
        statuses = await _until_ended(settings, jobs)
    _each_ends_once(statuses, batches)
    await _each_made_one_version(settings, batches, await undisturbed)
    records = {record.job_id: record for record in await _jobs(settings)}
    broken = Counter(one.code for record in records.values() for one in record.broken)
    print(
        f"{jobs} jobs in {time.monotonic() - began:.0f} s; kills: {dict(killed)}; broken attempts: "
        f"{dict(broken)}; attempts: {sum(record.attempt for record in records.values())}"
    )
    assert sum(broken.values()) == sum(record.attempt - 1 for record in records.values())


async def _apply(settings: KafkaSettings, run_id: str, model: Path) -> RunConfig:
    arguments = {"learning_rate": 3e-3, "num_train_epochs": 4, "per_device_train_batch_size": 8}
    return await apply_run(
        settings,
        run_id,
        trainer={
            "_type": "trl",
            "model": {"hf_model_ckpt": str(model)},
            "lora": {"r": 4},
            "training": {"training_args": arguments | {"save_steps": 3}},
        },
    )


def _batch(config: RunConfig, epoch: int, train: DatasetFile) -> TrainingBatch:
    return TrainingBatch(
        run_id=config.run_id,
        batch_id=f"batch-{epoch}",
        config_digest=config.digest,
        objective=Objective.DPO,
        epoch=epoch,
        train=train,
        validation=None,  # nothing to judge by: every version is promoted, and the next trains from it
        groups=ROWS,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=[],
    )


async def _undisturbed(
    config: RunConfig, store: ArtifactStore, datasets: list[DatasetFile]
) -> list[Artifact]:
    """Train the versions of a run one after another, in a worker that nobody kills."""
    worker, made = TRLWorkerHandle(WorkerSettings(start_timeout=DEADLINE)), list[Artifact]()
    try:
        for number, train in enumerate(datasets):
            spec = JobSpec(
                run_id=config.run_id,
                job_id=f"undisturbed-{number}",
                config=config.trainer,
                artifacts=store.url,
                train=train,
                parent=made[-1] if made else None,
            )
            made.append((await result_of(worker, spec)).artifact)
    finally:
        await worker.close()
    return made


async def _send(settings: KafkaSettings, batches: list[TrainingBatch]) -> None:
    async with EventProducer(settings) as producer:
        for number, batch in enumerate(batches):
            envelope = Envelope(id=str(number), type=type_of(batch), source="/tests", time=1)
            await producer.send(event_record("training.batches", (batch.run_id,), batch.to_json(), envelope))


async def _kill(
    settings: KafkaSettings, cluster: Cluster, dice: random.Random, kills: int, jobs: int
) -> Counter[str]:
    """Kill -9 services and workers, or stop workers for good, until there were enough, or all jobs ended."""
    done: Counter[str] = Counter()
    replicas = list(cluster.replicas.values())
    seen, apart = jobs, max(3, 2 * STATUSES * jobs // kills)
    while done.total() < kills:
        found = await read_until(
            settings, "training.status", _more(seen + dice.randint(2, apart), jobs), deadline=DEADLINE
        )
        if _ended(found) >= jobs:
            break
        seen = len(found)
        await asyncio.sleep(dice.random())
        replica, act = dice.choice(replicas), dice.choice(("service", "worker", "hang"))
        if act == "service":
            await crash(replica)
        elif not _stop_worker(replica, signal.SIGKILL if act == "worker" else signal.SIGSTOP):
            continue
        done[act] += 1
    return done


def _more(statuses: int, jobs: int) -> Callable[[list[ConsumerRecord]], bool]:
    """Say when there are so many statuses, or so many jobs have ended."""
    return lambda records: len(records) >= statuses or _ended(records) >= jobs


def _stop_worker(replica: ServiceProcess, how: signal.Signals) -> bool:
    assert replica.process is not None
    children = psutil.Process(replica.process.pid).children(recursive=True)
    for child in children:
        if "tunestream.trainers.worker.main" in " ".join(child.cmdline()):
            child.send_signal(how)
            return True
    return False


def _ended(records: list[ConsumerRecord]) -> int:
    return len({status.job_id for status in _parsed(records) if status.status in TERMINAL})


def _parsed(records: list[ConsumerRecord]) -> list[TrainingJobStatus]:
    return [TrainingJobStatus.model_validate_json(record.value) for record in records]


async def _until_ended(settings: KafkaSettings, jobs: int) -> list[TrainingJobStatus]:
    await read_until(settings, "training.status", lambda found: _ended(found) >= jobs, deadline=DEADLINE)
    return _parsed(await read_all(settings, "training.status"))


def _each_ends_once(statuses: list[TrainingJobStatus], batches: list[TrainingBatch]) -> None:
    by_job: defaultdict[str, list[TrainingJobStatus]] = defaultdict(list)
    for status in statuses:
        by_job[status.job_id].append(status)
    assert len(by_job) == len(batches)
    for told in by_job.values():
        assert [status.sequence for status in told] == list(range(len(told)))
        assert [one.status for one in told if one.status in TERMINAL] == [TrainingStatusEnum.COMPLETED]
        progress = [status.progress or 0.0 for status in told]
        assert progress == sorted(progress)


async def _each_made_one_version(
    settings: KafkaSettings, batches: list[TrainingBatch], expected: list[Artifact]
) -> None:
    kind = type_of(ModelVersion).encode()
    records = [one for one in await read_all(settings, "models") if dict(one.headers)["ce_type"] == kind]
    versions = {one.version: one for one in (ModelVersion.model_validate_json(r.value) for r in records)}
    made = Counter(version.job_id for version in versions.values())
    assert set(made.values()) == {1}
    found = {(version.run_id, version.batch_id): version.artifact.sha256 for version in versions.values()}
    assert found == {(batch.run_id, batch.batch_id): expected[batch.epoch].sha256 for batch in batches}


async def _jobs(settings: KafkaSettings) -> list[JobRecord]:
    kind = type_of(JobRecord).encode()
    records = await read_all(settings, "training.jobs")
    return [
        JobRecord.model_validate_json(one.value)
        for one in records
        if one.value and dict(one.headers)["ce_type"] == kind
    ]
