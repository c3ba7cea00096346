"""The trainer's core: the jobs and the model versions of the runs on one partition.

Every step puts the job's new record, the status that announces it, and what else belongs to it into one
set of effects. A step that does not fit the job's state any more changes nothing and returns False or None:
commands, workers and rebalances race, and the ledger decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tunestream.domain.effects import Effects
from tunestream.domain.jobs import lifecycle
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.domain.jobs.state import TrainingState
from tunestream.domain.models.evaluation import describe
from tunestream.events.ids import job_id, stable_id, version_id
from tunestream.events.keys import CURRENT
from tunestream.events.models import Artifact, CurrentModel, Evaluation, ModelStatus, ModelVersion
from tunestream.events.training import (
    JobRecord,
    TrainingBatch,
    TrainingStatusEnum,
)

__all__ = ["JobLedger"]


class JobLedger(TrainingState):
    """The steps of jobs, and the moves of the runs' pointers."""

    def accept(self, batch: TrainingBatch, *, backend: str, now: datetime, effects: Effects) -> bool:
        """Make the job of a batch; False when the batch came before: delivered twice, trained once."""
        if job_id(batch.run_id, batch.batch_id) in self._jobs:
            effects.counts["repeated_batch"] += 1
            return False
        self._put(lifecycle.create(batch, backend=backend, now=now), effects)
        return True

    def submit(self, batch: TrainingBatch, *, backend: str, now: datetime, effects: Effects) -> JobRecord:
        """Make a job of a batch, one more when it had some; they must be finished.

        Raises:
            lifecycle.InvalidTransition: when a job of the batch is not finished.
        """
        earlier = self.submissions(batch.run_id, batch.batch_id)
        if earlier and earlier[-1].status not in TERMINAL:
            raise lifecycle.InvalidTransition(earlier[-1], TrainingStatusEnum.PENDING)
        step = lifecycle.create(
            batch,
            backend=backend,
            now=now,
            submission=earlier[-1].submission + 1 if earlier else 1,
            resumes=_left_off(earlier[-1]) if earlier else None,
        )
        return self._put(step, effects)

    def start(self, job: str, *, now: datetime, effects: Effects) -> JobRecord | None:
        """Begin the next attempt of an unfinished job, from the run's current version."""
        record = self._unfinished(job)
        if record is None:
            return None
        current = self.current(record.run_id)
        parent = None if current is None else current.version
        return self._put(lifecycle.start(record, parent_version=parent, now=now), effects)

    def report(
        self,
        job: str,
        attempt: int,
        *,
        progress: float,
        message: str,
        metrics: Mapping[str, Any],
        now: datetime,
        effects: Effects,
    ) -> bool:
        """Report how far an attempt is; return False when it may not commit any more."""
        if not self.holds(job, attempt):
            return False
        step = lifecycle.report(self._jobs[job], progress=progress, message=message, metrics=metrics, now=now)
        self._put(step, effects)
        return True

    def break_off(
        self, job: str, attempt: int, *, code: str, message: str, now: datetime, effects: Effects
    ) -> bool:
        """Report why an attempt ended before its job; return False when it may not commit any more."""
        if not self.holds(job, attempt):
            return False
        self._put(lifecycle.break_off(self._jobs[job], code=code, message=message, now=now), effects)
        return True

    def complete(
        self,
        job: str,
        attempt: int,
        *,
        artifact: Artifact,
        base_model: str,
        metrics: Mapping[str, float],
        evaluation: Evaluation,
        message: str,
        now: datetime,
        effects: Effects,
    ) -> ModelVersion | None:
        """End an attempt with a version, and make it the run's current one unless it was rejected.

        The terminal status, the version and the pointer are one set of effects. A version that was
        compared with one that is not current any more, or that an evaluator's failure holds, stays a
        candidate. None when the attempt may not commit any more.
        """
        if not self.holds(job, attempt):
            return None
        record = self._jobs[job]
        parent = self._versions.get(record.run_id, {}).get(record.parent_version or "")
        version = ModelVersion(
            run_id=record.run_id,
            version=version_id(record.run_id, job),
            number=1 if parent is None else parent.number + 1,
            base_model=base_model,
            artifact=artifact,
            parent=record.parent_version,
            job_id=job,
            batch_id=record.batch.batch_id,
            config_digest=record.batch.config_digest,
            status=self._verdict(record, evaluation),
            evaluation=evaluation,
            metrics=dict(metrics),
            created=now,
        )
        shown = {**metrics, "evaluation": evaluation.model_dump(mode="json"), "model_status": version.status}
        message = f"{message}; {version.status}: {describe(evaluation)}"
        step = lifecycle.complete(record, version=version.version, message=message, metrics=shown, now=now)
        self._put(step, effects)
        if version.status is ModelStatus.PROMOTED:
            self._versions.setdefault(record.run_id, {})[version.version] = version
            self.point(record.run_id, version.version, cause="training", now=now, effects=effects)
        else:
            self._put_version(version, "made", now, effects)
        return version

    def _verdict(self, record: JobRecord, evaluation: Evaluation) -> ModelStatus:
        if evaluation.verdict == "rejected":
            return ModelStatus.REJECTED
        if evaluation.hold is not None:
            return ModelStatus.CANDIDATE
        current = self.current(record.run_id)
        compared = None if current is None else current.version
        return ModelStatus.PROMOTED if compared == record.parent_version else ModelStatus.CANDIDATE

    def fail(self, job: str, *, code: str, message: str, now: datetime, effects: Effects) -> bool:
        """End an unfinished job that cannot be trained."""
        record = self._unfinished(job)
        if record is None:
            return False
        self._put(lifecycle.fail(record, code=code, message=message, now=now), effects)
        return True

    def cancel(self, job: str, *, code: str, message: str, now: datetime, effects: Effects) -> bool:
        """End an unfinished job that should not be trained."""
        record = self._unfinished(job)
        if record is None:
            return False
        self._put(lifecycle.cancel(record, code=code, message=message, now=now), effects)
        return True

    def point(
        self,
        run_id: str,
        version: str,
        *,
        cause: Literal["training", "promote", "rollback", "live_scores"],
        message: str | None = None,
        now: datetime,
        effects: Effects,
    ) -> CurrentModel:
        """Make a version the run's current one; the one that was current before is retired.

        A run has at most one PROMOTED version: the one that its pointer names.

        Args:
            run_id: the run.
            version: one of its versions.
            cause: what moves the pointer.
            message: why the one before is rolled back automatically.
            now: when.
            effects: what it causes is added to them.
        """
        before = self._current.get(run_id)
        pointer = CurrentModel(
            run_id=run_id,
            version=version,
            generation=1 if before is None else before.generation + 1,
            previous=None if before is None else before.version,
            cause=cause,
        )
        self._current[run_id] = pointer
        if before is not None and before.version != version:
            self._mark(before.version, ModelStatus.RETIRED, pointer, message, now, effects)
        self._mark(version, ModelStatus.PROMOTED, pointer, None, now, effects)
        name = stable_id("current", run_id, str(pointer.generation))
        self._emit("models", pointer, (run_id, CURRENT), name, now, effects)
        return pointer

    def _mark(
        self,
        version: str,
        status: ModelStatus,
        pointer: CurrentModel,
        message: str | None,
        now: datetime,
        effects: Effects,
    ) -> None:
        found = self._versions[pointer.run_id][version]
        marked = found.model_copy(update={"status": status, "rolled_back": message})
        self._put_version(marked, str(pointer.generation), now, effects)


def _left_off(job: JobRecord) -> str | None:
    """Return the canceled job that started; the next submission may continue from its checkpoints."""
    if job.status is not TrainingStatusEnum.CANCELED:
        return None
    return job.job_id if job.attempt else job.resumes
