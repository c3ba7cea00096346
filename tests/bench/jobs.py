"""How fast a running job is canceled, and whether a warm worker grows over many jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy
from tests.bench.results import Figure, at_most
from tests.bench.workload import RUN
from tests.helpers.tiny_model import rows, write_tiny_model
from tests.helpers.training import job_spec, make_config, result_of
from tunestream.artifacts import ArtifactStore, LogStore, put_rows
from tunestream.domain.jobs.submission import make_batch
from tunestream.events.training import Objective, TrainingJobStatus
from tunestream.sdk import RunControl, StatusSubscriber
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.protocol import Canceled, Progress

__all__ = ["cancel", "worker_memory"]

_ENDLESS: Final[dict[str, Any]] = {
    "num_train_epochs": 100_000,
    "per_device_train_batch_size": 64,
    "save_steps": 500,
}
_DEADLINE_SECONDS: Final = 600.0
_WARM_JOBS: Final = 3


async def worker_memory(context: Context) -> list[Figure]:
    """Resident memory of one warm worker over 50 jobs (quick: 6), after the first few."""
    store = ArtifactStore(str(context.folder / "artifacts"))
    config = make_config(write_tiny_model(context.folder / "memory-model"), num_train_epochs=1)
    train, worker, sizes = put_rows(store, rows(64)), TRLWorkerHandle(), list[float]()
    try:
        for _ in range(_WARM_JOBS + context.sized(50, 6)):
            await result_of(worker, job_spec(store, config, train=train, validation=None))
            assert worker.pid is not None
            sizes.append(psutil.Process(worker.pid).memory_info().rss / 1e6)
    finally:
        await worker.close()
    sizes = sizes[_WARM_JOBS:]
    half = len(sizes) // 2
    title = f"worker, resident over {len(sizes)} jobs"
    return [
        Figure("worker-memory", f"{title}: largest", (max(sizes),), "MB"),
        Figure("worker-memory", f"{title}: last less first", (sizes[-1] - sizes[0],), "MB"),
        Figure(
            "worker-memory",
            f"{title}: second half over first",
            (max(sizes[half:]) / max(sizes[:half]),),
            "x",
            at_most(1.02),
        ),
    ]


async def cancel(context: Context) -> list[Figure]:
    """A job that runs is canceled: in the worker, and by a command to the trainer service."""
    model = write_tiny_model(context.folder / "cancel-model")
    in_worker = await _in_worker(context, model)
    answered, stopped = await _by_command(context, model)
    return [
        Figure("cancel", "worker: asked to stopped, its checkpoint stored", in_worker, "s", at_most(1)),
        Figure("cancel", "service: command to answer, the job CANCELED", answered, "s", at_most(1)),
        Figure("cancel", "service: command to the worker's stop, its checkpoint stored", stopped, "s"),
    ]


async def _in_worker(context: Context, model: Path) -> tuple[float, ...]:
    store, worker, seconds = ArtifactStore(str(context.folder / "cancel")), TRLWorkerHandle(), list[float]()
    try:
        for _ in range(context.rounds):
            spec, asked = job_spec(store, make_config(model, **_ENDLESS)), 0.0
            async for report in worker.run(spec):
                if isinstance(report, Progress) and report.step and not asked:
                    asked = time.perf_counter()
                    await worker.cancel(spec.job_id)
            seconds.append(time.perf_counter() - asked)
            assert isinstance(report, Canceled)
            assert store.files.exists(f"checkpoints/{spec.job_id}")
    finally:
        await worker.close()
    return tuple(seconds)


async def _by_command(context: Context, model: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    where = await deploy(
        context.servers,
        context.folder,
        {"trainer": make_config(model, **_ENDLESS).model_dump(mode="json", by_alias=True)},
    )
    rounds = list[tuple[float, float]]()
    async with where.service("trainer"):
        for number in range(context.rounds):
            rounds.append(await _cancel_one(where, number))
    return tuple(answered for answered, _ in rounds), tuple(stopped for _, stopped in rounds)


async def _cancel_one(where: Deployment, number: int) -> tuple[float, float]:
    """Return seconds from the command to its answer, and to the worker's stop."""
    store, content = ArtifactStore(str(where.folder / "artifacts")), rows(64, seed=number)
    batch = make_batch(
        RUN,
        config_digest=where.config.digest,
        objective=Objective.DPO,
        train=put_rows(store, content),
        validation=None,
        rows=content,
    )
    control = RunControl(RUN, settings=where.kafka)
    async with StatusSubscriber(RUN, settings=where.kafka) as statuses:
        job = (await control.submit(batch)).job_id
        assert job is not None
        await _until(statuses, lambda one: one.job_id == job and (one.metadata or {}).get("step", 0) > 0)
    began, asked = time.perf_counter(), datetime.now(UTC)
    answer = await control.cancel(job)
    answered = time.perf_counter() - began
    assert answer.accepted, answer.reason
    return answered, (await _stopped(LogStore(store, job)) - asked).total_seconds()


async def _until(statuses: StatusSubscriber, wanted: Callable[[TrainingJobStatus], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_SECONDS):
        async for status in statuses:
            if wanted(status):
                return


async def _stopped(log: LogStore) -> datetime:
    """Return when the worker told that it stopped, as its log has it."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while True:
            lines = [line for attempt in log.attempts() for line in log.read(attempt)]
            if lines and lines[-1].text == "stopped as asked":
                return lines[-1].time
            await asyncio.sleep(0.2)
