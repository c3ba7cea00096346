"""Trains one job: examines its episodes, has ART take one step, collects the checkpoint. Loads ART."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import art
from openai.types.chat.chat_completion import Choice

from tunestream.artifacts import read_rows
from tunestream.events.dataset import DatasetRow
from tunestream.trainers.art.config import ARTTrainerAdapterConfig, ARTTrainingConfig
from tunestream.trainers.art.episodes import Examined, Played, examine
from tunestream.trainers.art.job import Job, measured
from tunestream.trainers.art.traces import Trace
from tunestream.trainers.art.way import Way
from tunestream.trainers.port import TrainingFailed, TrainingResult

__all__ = ["OpenWay", "open_way", "train"]

OpenWay = Callable[[Job], Way]
"""Makes the ART backend that trains a job."""


def open_way(job: Job) -> Way:
    """Return the ART backend of a job's section; only the one that is used is imported."""
    if job.config.backend.kind == "serverless":
        from tunestream.trainers.art.serverless import Serverless  # noqa: PLC0415

        return Serverless(job)
    from tunestream.trainers.art.local import Local  # noqa: PLC0415 - loads all that trains

    return Local(job)


async def train(job: Job, opened_by: OpenWay = open_way) -> TrainingResult:
    """Train a job and store what it made.

    Raises:
        TrainingFailed: with a reason that a user can act on.
        JobCanceled: when the owner does not want it any more.
    """
    known = job.traces.find(job.spec.job_id)
    if known is not None and known.result is not None:
        return known.result
    way = opened_by(job)
    try:
        found = examine(_rows(job), way.token_ids())
        if not found.groups:
            raise TrainingFailed("empty_dataset", f"{found.summary}. {found.remedies}")
        await way.open()
        trace = known or await _begin(job, way)
        return await _go_on(job, way, trace, found)
    finally:
        await way.close()


def _rows(job: Job) -> list[DatasetRow | None]:
    file = job.spec.train
    return [] if file is None else list(read_rows(job.store.get_bytes(file.uri, file.sha256)))


async def _begin(job: Job, way: Way) -> Trace:
    """Write the model's step down before anything is trained."""
    job.notes += await way.settle([trace for trace in job.traces.all() if trace.running])
    step = await way.step()
    if job.config.backend.delete_old_checkpoints and step:
        await _delete_all_but(job, way, step)
    return job.traces.keep(Trace(job_id=job.spec.job_id, before=step))


async def _delete_all_but(job: Job, way: Way, step: int) -> None:
    try:
        await way.keep_only(step)
    except Exception as error:  # noqa: BLE001 - old checkpoints do not stop a training
        job.note(f"old checkpoints were not deleted: {error}")


async def _go_on(job: Job, way: Way, trace: Trace, found: Examined) -> TrainingResult:
    metrics: dict[str, float] = {}
    step = await way.step()
    if trace.remote is None and step > trace.before and await way.is_complete(step):
        job.note(f"step {step} was there before this attempt trained: it is taken for the job's")
    else:
        metrics = await _train(job, way, found)
        step = await way.step()
    if step <= trace.before:
        job.traces.forget(job.spec.job_id)
        raise TrainingFailed("no_step", f"ART reports a training, but its step is still {step}")
    job.channel.update(phase="saving")
    result = await _result(job, way, step, metrics, found)
    job.traces.keep(job.trace().model_copy(update={"running": False, "result": result}))
    return result


async def _train(job: Job, way: Way, found: Examined) -> dict[str, float]:
    job.channel.update(phase="training")
    try:
        return await way.train(_groups(found.groups), _options(job.config))
    except TrainingFailed as failure:
        if failure.code not in {"service_unreachable", "stalled"}:  # else the service may go on
            job.traces.forget(job.spec.job_id)
        raise


async def _result(
    job: Job, way: Way, step: int, metrics: Mapping[str, float], found: Examined
) -> TrainingResult:
    with TemporaryDirectory(dir=job.channel.scratch) as folder:
        artifact, note = await way.collect(step, Path(folder) / "checkpoint")
    counts = {"rows": float(found.used), "step": float(step), "seconds": time.monotonic() - job.started}
    return TrainingResult(
        artifact=artifact,
        metrics=measured(metrics) | counts,
        curve=job.curve,
        rows_used=found.used,
        rows_skipped=dict(found.skipped),
        message="; ".join([f"trained step {step} on {found.summary}", *job.notes, note]),
    )


def _groups(groups: Sequence[Sequence[Played]]) -> list[art.TrajectoryGroup]:
    return [art.TrajectoryGroup([_trajectory(one) for one in members]) for members in groups]


def _trajectory(played: Played) -> art.Trajectory:
    messages = [Choice.model_validate(one) if "finish_reason" in one else one for one in played.messages]
    return art.Trajectory(
        messages_and_choices=messages,
        tools=played.tools,
        reward=played.reward,
        metadata={"example_id": played.example_id},
    )


def _options(config: ARTTrainerAdapterConfig) -> dict[str, Any]:
    """Return what is set, under the names of ART's ``train``; what is not set is left to ART."""
    training = config.training or ARTTrainingConfig()
    options = training.model_dump(exclude={"beta", "loss_fn"}, exclude_none=True)
    if config.backend.kind == "serverless":
        return {**options, "ppo": training.loss_fn == "ppo"}
    if training.packed_sequence_length and not training.logprob_calculation_chunk_size:
        options["logprob_calculation_chunk_size"] = training.packed_sequence_length
    return {**options, "loss_fn": training.loss_fn, "kl_penalty_coef": training.beta}
