"""The second stage: rows become weights, through the port for training."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tunestream.artifacts import ArtifactStore, CheckpointStore
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.models import Artifact
from tunestream.events.training import DatasetFile
from tunestream.experiments.stages import OnProgress, StageFailed
from tunestream.experiments.store import write_atomically
from tunestream.trainers import (
    Backend,
    Checkpoint,
    JobSpec,
    Progress,
    Retry,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream.trainers.retry import train_with_retries

__all__ = ["FinetuneRequest", "Trained", "forget_checkpoints", "keep", "store_rows", "train_here"]

_RETRY: Final = Retry()  # of one call
_ATTEMPT: Final = "attempt"


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """What to train, from what.

    Attributes:
        key: of the stage; names the job and so its checkpoints.
        trainer: of the arm.
        train: ``train.jsonl``.
        validation: ``validation.jsonl``, which may be empty.
        output: an existing folder, in which an earlier call may have left its count of attempts.
    """

    key: str
    trainer: TrainerSection
    train: Path
    validation: Path
    output: Path


@dataclass(frozen=True, slots=True)
class Trained:
    """What a job made: weights in a store, and how it went."""

    artifact: Artifact
    metrics: dict[str, float]
    message: str
    curve: Sequence[dict[str, float]]
    details: dict[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["adapter", "full"]:
        """Whether the weights are an adapter's or a whole model's."""
        return self.artifact.kind


async def train_here(
    request: FinetuneRequest,
    store: ArtifactStore,
    backend: Backend,
    progress: OnProgress,
    retry: Retry = _RETRY,
) -> Trained:
    """Train on this machine, from the last checkpoint of an interrupted call on.

    Raises:
        StageFailed: when the job cannot be trained.
    """
    spec = await asyncio.to_thread(_specify, request, store)

    def report(one: Progress | Checkpoint) -> None:
        if isinstance(one, Progress):
            progress(one.step, one.total)

    try:
        result = await train_with_retries(
            backend, spec, report, retry, lambda _: _next_attempt(request.output)
        )
    except TrainingFailed as failure:
        raise StageFailed(failure.code, failure.message_in("")) from failure
    except TrainingCanceled as canceled:
        raise StageFailed(canceled.code, canceled.message) from canceled
    return _trained(result)


def store_rows(store: ArtifactStore, path: Path) -> DatasetFile | None:
    """Store the rows of a stage; None when there are none."""
    content = path.read_bytes()
    if not content:
        return None
    stored = store.put_bytes(content)
    return DatasetFile(uri=stored.uri, sha256=stored.sha256, rows=len(content.splitlines()), size=stored.size)


def keep(trained: Trained, store: ArtifactStore, output: Path) -> None:
    """Write weights, loss curve and result to a stage's folder."""
    weights = output / "weights"
    shutil.rmtree(weights, ignore_errors=True)
    store.fetch_directory(trained.artifact.uri, trained.artifact.sha256, weights)
    lines = (json.dumps(point) + "\n" for point in trained.curve)
    write_atomically(output / "curve.jsonl", "".join(lines))
    result = {"kind": trained.kind, "metrics": trained.metrics, "message": trained.message, **trained.details}
    write_atomically(output / "result.json", json.dumps(result, indent=2))
    (output / _ATTEMPT).unlink(missing_ok=True)


def forget_checkpoints(key: str, store: ArtifactStore) -> None:
    """Delete the checkpoints of a finished stage."""
    CheckpointStore(store, _job_id(key)).delete()


def _job_id(key: str) -> str:
    return f"experiment-{key[:40]}"


def _specify(request: FinetuneRequest, store: ArtifactStore) -> JobSpec:
    train = store_rows(store, request.train)
    if train is None:
        raise StageFailed("no_rows", "there are no rows to train on")
    return JobSpec(
        run_id="experiment",
        job_id=_job_id(request.key),
        attempt=_next_attempt(request.output),
        config=request.trainer,
        artifacts=store.url,
        train=train,
        validation=store_rows(store, request.validation),
    )


def _next_attempt(output: Path) -> int:
    """Count attempts over the ends of processes: only an earlier one's checkpoint is gone on from."""
    path = output / _ATTEMPT
    attempt = int(path.read_text()) + 1 if path.exists() else 1
    write_atomically(path, str(attempt))
    return attempt


def _trained(result: TrainingResult) -> Trained:
    return Trained(
        artifact=result.artifact,
        metrics=result.metrics,
        message=result.message,
        curve=result.curve,
        details={"rows_used": result.rows_used, "rows_skipped": result.rows_skipped},
    )
