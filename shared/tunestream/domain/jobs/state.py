"""The jobs, model versions and pointers of the runs on one partition, and how each is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from tunestream.domain.effects import Effects, Outbound
from tunestream.domain.jobs.lifecycle import TERMINAL, JobStep
from tunestream.events.base import Wire
from tunestream.events.ids import stable_id
from tunestream.events.live import LiveRecord
from tunestream.events.models import CurrentModel, ModelStatus, ModelVersion
from tunestream.events.training import ControlResult, DatasetFile, JobRecord, TrainingStatusEnum

__all__ = ["LIVE", "TrainingState"]

# Last part of the key of a run's live scores in `training.jobs`; no job has such an id.
LIVE: Final = "live"


class TrainingState:
    """Jobs, versions and pointers by run. State: the records of ``training.jobs`` and ``models``."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobRecord] = {}
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._current: dict[str, CurrentModel] = {}
        self._live: dict[str, LiveRecord] = {}

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
        """Return whether this attempt of a job may still commit."""
        record = self._jobs.get(job)
        return (
            record is not None and record.status is TrainingStatusEnum.RUNNING and record.attempt == attempt
        )

    def left_off(self, job: JobRecord) -> str | None:
        """Return the canceled job from whose checkpoints a started job may continue.

        None when the run's current version changed since: what was trained from another parent is no
        part of what is trained from this one.
        """
        earlier = self._jobs.get(job.resumes or "")
        same_parent = earlier is not None and earlier.parent_version == job.parent_version
        return job.resumes if same_parent else None

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

    def _unfinished(self, job: str) -> JobRecord | None:
        record = self._jobs.get(job)
        return None if record is None or record.status in TERMINAL else record

    def put_live(self, record: LiveRecord, *, now: datetime, effects: Effects) -> None:
        """Keep the live scores of a run."""
        self._live[record.run_id] = record
        name = stable_id("live", record.to_json().decode())
        self._emit("training.jobs", record, (record.run_id, LIVE), name, now, effects)

    def answer(self, answer: ControlResult, *, now: datetime, effects: Effects) -> None:
        """Publish the answer to a command."""
        name = stable_id("answer", answer.run_id, answer.command_id)
        self._emit("training.control.results", answer, (answer.run_id,), name, now, effects)

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
