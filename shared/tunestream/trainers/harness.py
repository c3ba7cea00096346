"""The reference's life cycle of training over any backend: submit, status, wait, cancel, close."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from typing import Any

from tunestream.artifacts import ArtifactStore
from tunestream.config.nat.finetune import FinetuneConfig
from tunestream.config.run.trainers import TrainerSection
from tunestream.config.settings import StoreSettings
from tunestream.events.ids import stable_id
from tunestream.events.models import Artifact
from tunestream.events.training import TrainingJobRef, TrainingJobStatus
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers.attempt import as_training_failure
from tunestream.trainers.collection_rows import Rows, rows_of
from tunestream.trainers.harness_jobs import SubmittedJob, SubmittedJobs, UnknownJob
from tunestream.trainers.port import Backend, JobSpec, Stop, TrainingFailed, TrainingResult
from tunestream.trainers.registry import find_backend, open_backend
from tunestream.trainers.retry import Retry, train_with_retries

__all__ = ["TrainerAdapter"]


class TrainerAdapter:
    """Trains jobs in the background and answers for them, under the names of the NeMo Agent Toolkit.

    A job without a :class:`JobSpec` continues from the adapter's last version of its run, and is tried
    again as ``retry`` allows; closing the adapter cancels it. A job with one is tried once, as its attempt;
    closing leaves it in the service that trains it. A backend on this machine trains one job at a time.

    Subclasses settle with :meth:`rows` what a collection becomes, with :meth:`accept` which JobSpecs are
    taken, with :meth:`adopt` which jobs are known from earlier, and with :meth:`completed` what is removed.

    Args:
        adapter_config: the trainer section; its ``_type`` names the backend.
        artifacts: URL of the artifact store; by default from the environment.
        backend: trains; it is closed by its owner. By default one is opened, and closed with the adapter.
        retry: of jobs without a JobSpec.
    """

    canceled: str = "canceled as asked"
    """The status message of a job that was canceled while it ran."""
    close_seconds: float = 10.0
    """How long closing waits for jobs to stop by themselves."""

    def __init__(
        self,
        adapter_config: TrainerSection,
        *,
        artifacts: str | None = None,
        backend: Backend | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.adapter_config = adapter_config
        self.run_config: FinetuneConfig | None = None
        self.artifacts = artifacts or StoreSettings().artifacts
        self._description = find_backend(adapter_config.type)
        self._local = self._description.is_local(adapter_config)
        self.backend: Backend = backend or open_backend(self._description, adapter_config, self.artifacts)
        self._owns_backend = backend is None
        self._retry = retry or Retry()
        self._jobs = SubmittedJobs()
        self._latest: dict[str, Artifact] = {}
        self._turn: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self._local else contextlib.nullcontext()
        )
        self._adopting = asyncio.Lock()

    @property
    def reference(self) -> str:
        """The backend's name in references and statuses."""
        return self._description.reference or self.adapter_config.type

    def rows(self, trajectories: TrajectoryCollection, config: TrainerSection) -> Rows:
        """Return what a collection becomes; called in a thread.

        Raises:
            ValueError: when there is nothing to train on, or nothing that this backend can train.
        """
        return Rows(config, rows_of(trajectories))

    def accept(self, spec: JobSpec) -> None:
        """Look at a job that its submitter specified.

        Raises:
            ValueError: when this adapter cannot train it.
        """
        if not isinstance(spec.config, self._description.config):
            kind = self.adapter_config.type
            message = f"the adapter of {kind} cannot train a job of trainer {spec.config.type}"
            raise ValueError(message)  # noqa: TRY004 - the value of a well-typed field is at fault

    async def adopt(self, ref: TrainingJobRef) -> JobSpec | None:
        """Return the specification of a job that the backend knows from earlier, None when it does not.

        The job is watched from then on: ``train`` gets the specification, which may be without rows.
        """
        del ref
        return None

    async def completed(self, spec: JobSpec) -> None:
        """Remove what a completed job without a JobSpec needs no more."""

    async def initialize(self, run_config: FinetuneConfig | None = None) -> None:
        """Make the backend ready.

        Args:
            run_config: the toolkit's ``finetuning`` section, which is kept as ``run_config``.

        Raises:
            TrainingFailed: when the backend cannot be reached or lacks something.
        """
        if run_config is not None:
            self.run_config = run_config
        with as_training_failure():
            await self.backend.check()

    async def is_healthy(self) -> bool:
        """Ask the backend whether jobs can be trained now."""
        try:
            await self.initialize()
        except TrainingFailed:
            return False
        return True

    async def submit(
        self, trajectories: TrajectoryCollection, *, job: JobSpec | None = None
    ) -> TrainingJobRef:
        """Take a job and return at once.

        A job that was taken before is taken again by a higher attempt, or when it failed without a JobSpec.

        Args:
            trajectories: what to train on, unless ``job`` names stored datasets.
            job: names the job and its parent version; by default both follow from the trajectories.

        Raises:
            ValueError: when there is nothing to train on, or nothing that this backend can train.
        """
        spec = await self._specify(trajectories, job)
        known = self._jobs.find(spec.run_id, spec.job_id)
        if known is not None and job is None and known.failed:
            spec = spec.model_copy(update={"attempt": known.spec.attempt + 1})
        if known is not None:
            if spec.attempt <= known.spec.attempt:
                return known.ref
            known.stop(Stop.LOST, "superseded", f"attempt {spec.attempt} began")
        return self._begin(spec, ours=job is None).ref

    async def status(self, ref: TrainingJobRef) -> TrainingJobStatus:
        """Return a job's latest status; a finished one's again and again.

        The metadata of a completed job holds its :class:`TrainingResult`, that of a failed one a
        ``reason``.

        Raises:
            UnknownJob: when neither this adapter nor its backend knows the job.
        """
        return (await self._find(ref)).status

    async def wait_until_complete(
        self,
        ref: TrainingJobRef,
        poll_interval: float = 10.0,  # noqa: ARG002 - nothing is polled here
    ) -> TrainingJobStatus:
        """Return the terminal status as soon as there is one.

        Raises:
            UnknownJob: when neither this adapter nor its backend knows the job.
            TrainingFailed: when the adapter is closed while the job goes on in a service.
        """
        job = await self._find(ref)
        await job.ended.wait()
        if not job.is_terminal:
            message = f"job {job.spec.job_id} goes on in the service; nobody watches it here"
            raise TrainingFailed("closed", message)
        return job.status

    async def cancel(self, ref: TrainingJobRef) -> None:
        """End a job as CANCELED, unless it is finished.

        Raises:
            UnknownJob: when neither this adapter nor its backend knows the job.
        """
        job = await self._find(ref)
        if not self._local:
            await asyncio.sleep(0)  # the latest job gets to its service, where alone it can be ended
        message = self.canceled if job.began else "canceled before it started"
        job.stop(Stop.CANCELED, "canceled", message)

    async def close(self) -> None:
        """Stop everything that runs here; further calls are harmless."""
        if not self._local:
            await asyncio.sleep(0)  # as in cancel
        unfinished = self._jobs.unfinished()
        for job in unfinished:
            stop = Stop.CANCELED if job.ours else Stop.SHUTDOWN
            job.stop(stop, "closed", "the trainer was closed")
        if tasks := [job.task for job in unfinished]:
            await asyncio.wait(tasks, timeout=self.close_seconds)
        if self._owns_backend:
            await self.backend.close()
        for task in tasks:
            task.cancel(Stop.SHUTDOWN)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _specify(self, trajectories: TrajectoryCollection, job: JobSpec | None) -> JobSpec:
        if job is not None:
            self.accept(job)
            if job.train is not None:
                return job
        rows = await asyncio.to_thread(self.rows, trajectories, job.config if job else self.adapter_config)
        stored = await asyncio.to_thread(rows.store, ArtifactStore(self.artifacts))
        if job is not None:
            return job.model_copy(update=stored)
        run, parent = trajectories.run_id, self._latest.get(trajectories.run_id)
        origin = (parent.sha256 or parent.uri) if parent else ""
        name = stable_id("job", run, stored["train"].sha256, origin)
        return JobSpec(run_id=run, job_id=name, artifacts=self.artifacts, parent=parent, **stored)

    def _begin(self, spec: JobSpec, *, ours: bool) -> SubmittedJob:
        job = SubmittedJob(spec, self.reference, ours=ours, outlives=not (ours or self._local))
        job.start(self._train(job))
        self._jobs.add(job)
        return job

    async def _train(self, job: SubmittedJob) -> TrainingResult:
        async with self._turn:
            job.begin()
            retry = self._retry if job.ours else Retry(max_attempts=1)
            result = await train_with_retries(self.backend, job.spec, job.take, retry, job.next_attempt)
        if job.ours:
            await self.completed(job.spec)
            self._latest[job.spec.run_id] = result.artifact
        return result

    async def _find(self, ref: TrainingJobRef) -> SubmittedJob:
        name = str((ref.metadata or {}).get("job_id", ""))
        async with self._adopting:
            known = self._jobs.find(ref.run_id, name)
            if known is not None:
                return known
            spec = await self.adopt(ref) if name else None
            if spec is None:
                raise UnknownJob(ref)
            return self._begin(spec, ours=False)
