"""The trainer's core: the jobs and the model versions of the runs on one partition.

Every step puts the job's new record, the status that announces it, and what else belongs to it into one
set of effects. A step that does not fit the job's state any more changes nothing and says so: commands,
workers and rebalances race, and the ledger decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from tunestream.domain.effects import Effects, Outbound
from tunestream.domain.jobs import lifecycle
from tunestream.domain.jobs.lifecycle import TERMINAL, JobStep
from tunestream.domain.models.evaluation import describe
from tunestream.events.base import Wire
from tunestream.events.ids import job_id, stable_id, version_id
from tunestream.events.keys import CURRENT
from tunestream.events.live import LiveRecord
from tunestream.events.models import Artifact, CurrentModel, Evaluation, ModelStatus, ModelVersion
from tunestream.events.training import (
    ControlResult,
    DatasetFile,
    JobRecord,
    TrainingBatch,
    TrainingStatusEnum,
)

__all__ = ["LIVE", "JobLedger"]

# Last part of the key of a run's live scores in `training.jobs`; no job has such an id.
LIVE: Final = "live"


class JobLedger:
    """Jobs, versions and pointers by run. State: the records of ``training.jobs`` and ``models``."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobRecord] = {}
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._current: dict[str, CurrentModel] = {}
        self._live: dict[str, LiveRecord] = {}

    # -- state

    def restore_job(self, record: JobRecord) -> None:
        """Take back a job."""
        self._jobs[record.job_id] = record

    def restore_models(self, models: Iterable[ModelVersion | CurrentModel]) -> None:
        """Take back the versions and pointers of runs."""
        for model in models:
            if isinstance(model, ModelVersion):
                self._versions.setdefault(model.run_id, {})[model.version] = model
            else:
                self._current[model.run_id] = model

    def restore_live(self, record: LiveRecord) -> None:
        """Take back the live scores of a run."""
        self._live[record.run_id] = record

    def live(self, run_id: str) -> LiveRecord | None:
        """Return what a run's turns scored, None when nobody watches."""
        return self._live.get(run_id)

    def jobs(self) -> list[JobRecord]:
        """Return all jobs."""
        return list(self._jobs.values())

    def job(self, job: str) -> JobRecord | None:
        """Return a job's latest record."""
        return self._jobs.get(job)

    def current(self, run_id: str) -> ModelVersion | None:
        """Return the run's current version, None while that is the base model."""
        pointer = self._current.get(run_id)
        return None if pointer is None else self._versions[run_id][pointer.version]

    def all_versions(self) -> list[ModelVersion]:
        """Return the versions of all runs, in order of their runs and numbers."""
        found = [version for versions in self._versions.values() for version in versions.values()]
        return sorted(found, key=lambda version: (version.run_id, version.number, version.created))

    def pointer(self, run_id: str) -> CurrentModel | None:
        """Return the run's pointer to its current version, None while that is the base model."""
        return self._current.get(run_id)

    def submissions(self, run_id: str, batch: str) -> list[JobRecord]:
        """Return the jobs of a batch, the latest submission last."""
        found = [job for job in self._jobs.values() if (job.run_id, job.batch.batch_id) == (run_id, batch)]
        return sorted(found, key=lambda job: job.submission)

    def versions(self, run_id: str) -> Mapping[str, ModelVersion]:
        """Return a run's versions by name."""
        return self._versions.get(run_id, {})

    def holds(self, job: str, attempt: int) -> bool:
        """Say whether this attempt of a job may still commit."""
        record = self._jobs.get(job)
        return (
            record is not None and record.status is TrainingStatusEnum.RUNNING and record.attempt == attempt
        )

    # -- steps of a job

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

    def left_off(self, job: JobRecord) -> str | None:
        """Return the canceled job whose checkpoints a started job may go on from.

        None when the run's current version changed since: what was trained from another parent is no
        part of what is trained from this one.
        """
        earlier = self._jobs.get(job.resumes or "")
        same_parent = earlier is not None and earlier.parent_version == job.parent_version
        return job.resumes if same_parent else None

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
        """Tell how far an attempt is; False when it may not commit any more."""
        if not self.holds(job, attempt):
            return False
        step = lifecycle.report(self._jobs[job], progress=progress, message=message, metrics=metrics, now=now)
        self._put(step, effects)
        return True

    def break_off(
        self, job: str, attempt: int, *, code: str, message: str, now: datetime, effects: Effects
    ) -> bool:
        """Tell why an attempt ended before its job; False when it may not commit any more."""
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
        told = {**metrics, "evaluation": evaluation.model_dump(mode="json"), "model_status": version.status}
        message = f"{message}; {version.status}: {describe(evaluation)}"
        step = lifecycle.complete(record, version=version.version, message=message, metrics=told, now=now)
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

    def judging(self, job: JobRecord) -> list[DatasetFile]:
        """Return the rows by which a job's version is judged: held out of earlier windows, latest first.

        Those of submitted datasets are left out, since the stream may train on their prompts, and those of
        windows that made a version which was rejected or rolled back: the labels may have been the fault.
        """
        earlier = [
            other
            for other in self._jobs.values()
            if other.run_id == job.run_id
            and other.batch.origin == "stream"
            and other.submission == 1
            and other.batch.batch_id != job.batch.batch_id
            and not self._made_worse(other)
            and (other.created, other.batch.epoch) < (job.created, job.batch.epoch)
        ]
        earlier.sort(key=lambda other: (other.created, other.batch.epoch), reverse=True)
        return [other.batch.validation for other in earlier if other.batch.validation is not None]

    def _made_worse(self, job: JobRecord) -> bool:
        made = self.versions(job.run_id).get(job.version or "")
        return made is not None and (made.status is ModelStatus.REJECTED or made.rolled_back is not None)

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

    # -- versions

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

    def put_live(self, record: LiveRecord, *, now: datetime, effects: Effects) -> None:
        """Keep the live scores of a run."""
        self._live[record.run_id] = record
        name = stable_id("live", record.to_json().decode())
        self._emit("training.jobs", record, (record.run_id, LIVE), name, now, effects)

    def answer(self, answer: ControlResult, *, now: datetime, effects: Effects) -> None:
        """Tell the answer to a command."""
        name = stable_id("answer", answer.run_id, answer.command_id)
        self._emit("training.control.results", answer, (answer.run_id,), name, now, effects)

    # -- records

    def _unfinished(self, job: str) -> JobRecord | None:
        record = self._jobs.get(job)
        return None if record is None or record.status in TERMINAL else record

    def _put(self, step: JobStep, effects: Effects) -> JobRecord:
        record, status = step
        self._jobs[record.job_id] = record
        name = stable_id("status", record.job_id, str(record.sequence))
        self._emit("training.jobs", record, (record.run_id, record.job_id), name, record.updated, effects)
        self._emit("training.status", status, (record.run_id,), name, record.updated, effects)
        return record

    def _put_version(self, version: ModelVersion, change: str, now: datetime, effects: Effects) -> None:
        self._versions.setdefault(version.run_id, {})[version.version] = version
        name = stable_id("version", version.run_id, version.version, change)
        self._emit("models", version, (version.run_id, version.version), name, now, effects)

    def _emit(
        self, topic: str, body: Wire, key: tuple[str, ...], name: str, now: datetime, effects: Effects
    ) -> None:
        time = int(now.timestamp() * 1000)
        effects.outbound.append(Outbound(topic=topic, body=body, id=name, time=time, key=key))


def _left_off(job: JobRecord) -> str | None:
    """Return which job's checkpoints the next submission may go on from: the canceled one that started."""
    if job.status is not TrainingStatusEnum.CANCELED:
        return None
    return job.job_id if job.attempt else job.resumes
