"""Fine-tuning by the trainer service: a run of its own for each stage, whose dataset is submitted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.domain.jobs.submission import make_batch, read_submitted
from tunestream.events.models import ModelVersion
from tunestream.events.training import TrainingBatch, TrainingJobStatus, TrainingStatusEnum
from tunestream.experiments.finetune import FinetuneRequest, Trained, store_rows
from tunestream.experiments.stages import OnProgress, StageFailed
from tunestream.sdk import ModelSubscriber, RunControl, StatusSubscriber
from tunestream.streams.runs import apply_run

__all__ = ["TrainerService", "train_by_service"]

_SOURCE: Final = "/tunestream/experiments"
_ENDED: Final = frozenset(
    {TrainingStatusEnum.COMPLETED, TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}
)


@dataclass(frozen=True, slots=True)
class TrainerService:
    """Where the trainer service is.

    Attributes:
        kafka: its broker.
        artifacts: URL of the artifact store that it uses.
        answer_timeout: seconds for the owner of a run to answer.
        silence_timeout: seconds without a status of a job, after which it is given up.
    """

    kafka: KafkaSettings
    artifacts: str
    answer_timeout: float = 60.0
    silence_timeout: float = 3600.0


async def train_by_service(
    request: FinetuneRequest, service: TrainerService, progress: OnProgress
) -> Trained:
    """Have the trainer service train; a job of the same stage that runs or has ended well is taken over.

    Each stage is a run of its own, so that the arms of a study are spread over the trainer's replicas.

    Raises:
        StageFailed: when the job is refused or fails.
        TimeoutError: when nobody answers.
    """
    run = RunConfig(run_id=f"experiment-{request.key[:40]}", trainer=request.trainer)
    await apply_run(service.kafka, run, source=_SOURCE)
    batch = await asyncio.to_thread(_batch, request, service, run)
    async with StatusSubscriber(run.run_id, from_beginning=True, settings=service.kafka) as statuses:
        known = [status async for status in statuses.so_far()]
        job_id = _usable_job(known) or await _submit(run.run_id, batch, service)
        end, curve = await _follow(job_id, known, aiter(statuses), service.silence_timeout, progress)
    if end.status is not TrainingStatusEnum.COMPLETED:
        reason = (end.metadata or {}).get("reason", str(end.status))
        raise StageFailed(str(reason), f"job {job_id} of run {run.run_id}: {end.message}")
    version = await _version(run.run_id, job_id, service)
    return Trained(
        artifact=version.artifact,
        metrics=dict(version.metrics),
        message=end.message or "",
        curve=curve,
        details={"run_id": run.run_id, "job_id": job_id, "version": version.version},
    )


def _batch(request: FinetuneRequest, service: TrainerService, run: RunConfig) -> TrainingBatch:
    store = ArtifactStore(service.artifacts)
    train = store_rows(store, request.train)
    if train is None:
        raise StageFailed("no_rows", "there are no rows to train on")
    return make_batch(
        run.run_id,
        config_digest=run.digest,
        objective=run.objective,
        train=train,
        validation=store_rows(store, request.validation),
        rows=list(read_submitted(request.train.read_bytes())),
    )


def _usable_job(statuses: list[TrainingJobStatus]) -> str | None:
    """Return the latest job unless it ended without a version."""
    if not statuses:
        return None
    last = max(statuses, key=lambda status: (status.time, status.sequence))
    wasted = {TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED}
    return None if last.status in wasted else last.job_id


async def _submit(run_id: str, batch: TrainingBatch, service: TrainerService) -> str:
    control = RunControl(run_id, settings=service.kafka, timeout=service.answer_timeout, source=_SOURCE)
    answer = await control.submit(batch)
    if not answer.accepted or answer.job_id is None:
        raise StageFailed("refused", f"the trainer refuses the job of run {run_id}: {answer.reason}")
    return answer.job_id


async def _follow(
    job_id: str,
    known: list[TrainingJobStatus],
    coming: AsyncIterator[TrainingJobStatus],
    silence: float,
    progress: OnProgress,
) -> tuple[TrainingJobStatus, list[dict[str, float]]]:
    """Return the terminal status, and the losses that were reported on the way."""
    curve: dict[int, dict[str, float]] = {}
    waiting = [status for status in known if status.job_id == job_id]
    while True:
        for status in waiting:
            _draw(status, curve, progress)
            if status.status in _ENDED:
                return status, [curve[step] for step in sorted(curve)]
        waiting = [await _next_of(job_id, coming, silence)]


async def _next_of(
    job_id: str, coming: AsyncIterator[TrainingJobStatus], silence: float
) -> TrainingJobStatus:
    try:
        async with asyncio.timeout(silence):
            async for status in coming:
                if status.job_id == job_id:
                    return status
    except TimeoutError:
        raise TimeoutError(f"job {job_id} reported nothing for {silence:g} s: look at the trainer") from None
    raise AssertionError("unreachable: the topic is followed for ever")


def _draw(status: TrainingJobStatus, curve: dict[int, dict[str, float]], progress: OnProgress) -> None:
    reported = status.metadata or {}
    step, loss = reported.get("step"), reported.get("loss")
    if isinstance(step, int) and isinstance(loss, float):
        curve[step] = {"step": float(step), "loss": loss}
    progress(round(status.progress or 0.0), 100)


async def _version(run_id: str, job_id: str, service: TrainerService) -> ModelVersion:
    async with ModelSubscriber(run_id, from_beginning=True, settings=service.kafka) as models:
        async for model in models.so_far():
            if isinstance(model, ModelVersion) and model.job_id == job_id:
                return model
    raise StageFailed("no_version", f"job {job_id} is completed, but no version of it is in topic models")
