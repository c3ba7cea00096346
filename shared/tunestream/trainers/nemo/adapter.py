"""The TrainerAdapter over the NeMo Customizer."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.events.dataset import DatasetRow
from tunestream.events.ids import stable_id
from tunestream.events.training import DatasetFile, TrainingJobRef, TrainingJobStatus, TrainingStatusEnum
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers.collection_rows import rows_of
from tunestream.trainers.harness_jobs import UnknownJob
from tunestream.trainers.nemo.client import CustomizerClient
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.data_store import DataStore
from tunestream.trainers.nemo.driver import Driver
from tunestream.trainers.nemo.errors import as_failure
from tunestream.trainers.nemo.jobs import BACKEND, Job
from tunestream.trainers.nemo.records import HELD_OUT, Records, make_records, split
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.remote import ServiceError

__all__ = ["NeMoCustomizerTrainerAdapter"]

_REMEMBERED: Final = 1000  # finished jobs whose status can still be asked for
_LEAST_INTERVAL: Final = 0.01  # seconds
_AGAIN: Final = frozenset({TrainingStatusEnum.FAILED, TrainingStatusEnum.CANCELED})


class NeMoCustomizerTrainerAdapter:
    """Trains with the NeMo Customizer: DPO on preferences, or SFT on the best responses.

    A job's dataset has a repository and a commit of its own. The service's job carries our job's name and is
    looked for before one is created: after a restart, :meth:`submit` of the same job or :meth:`status` of
    its reference go on watching it. A failed or cancelled job is trained again by a higher attempt only.

    Every job starts from the model of ``customization_config``; a JobSpec's parent is not used. The model
    stays in the service: the artifact of the result names it as ``nemo://namespace/name@version`` and has
    no digest.

    :meth:`close` cancels jobs that were submitted without a JobSpec; the others go on in the service.

    Args:
        config: the run's trainer section.
        settings: deadlines and attempts; by default from the environment.
    """

    def __init__(
        self, config: NeMoCustomizerTrainerAdapterConfig, *, settings: NeMoSettings | None = None
    ) -> None:
        self._config = config
        self._settings = settings or NeMoSettings()
        self._jobs: dict[str, Job] = {}
        self._driver: Driver | None = None
        self._resuming = asyncio.Lock()

    async def initialize(self) -> None:
        """Ask the services, and create the namespace if it is missing.

        Raises:
            TrainingFailed: when a service does not answer or refuses, or a token's variable is not set.
        """
        await self.check()
        try:
            await self._connected().prepare()
        except ServiceError as error:
            raise as_failure(error) from error

    async def is_healthy(self) -> bool:
        """Ask both services; False when one of them does not answer properly."""
        try:
            await self.check()
        except TrainingFailed:
            return False
        return True

    async def check(self) -> None:
        """Ask both services, and change nothing.

        Raises:
            TrainingFailed: when a service does not answer or refuses, or a token's variable is not set.
        """
        try:
            await self._ping()
        except ServiceError as error:
            raise as_failure(error) from error

    async def submit(
        self, trajectories: TrajectoryCollection, *, job: JobSpec | None = None
    ) -> TrainingJobRef:
        """Take a job; see :class:`~tunestream.trainers.TrainerAdapter`."""
        new = self._of_spec(trajectories, job) if job else await self._of_collection(trajectories)
        known = self._jobs.get(new.job_id)
        if known is not None:
            again = new.ours and known.status.status in _AGAIN
            if not known.ended or not (again or new.attempt > known.attempt):
                return known.ref
            new.attempt = known.attempt + 1 if again else new.attempt
        self._accept(new)
        return new.ref

    async def status(self, ref: TrainingJobRef) -> TrainingJobStatus:
        """Return a job's latest status; see :class:`~tunestream.trainers.TrainerAdapter`."""
        return (await self._find(ref)).status

    async def wait_until_complete(
        self, ref: TrainingJobRef, poll_interval: float = 10.0
    ) -> TrainingJobStatus:
        """Return the terminal status; the service is asked at least every ``poll_interval`` seconds.

        Raises:
            UnknownJob: when neither this adapter nor the service knows the job.
            TrainingFailed: when the adapter is closed while the job goes on in the service.
        """
        job = await self._find(ref)
        if poll_interval < job.interval:
            job.interval = max(poll_interval, _LEAST_INTERVAL)
            job.wake()
        await job.done.wait()
        if not job.ended:
            raise TrainingFailed("closed", f"job {job.job_id} goes on in the service; nobody watches it here")
        return job.status

    async def cancel(self, ref: TrainingJobRef) -> None:
        """End a job as CANCELED when the service confirms it, unless it is finished."""
        job = await self._find(ref)
        job.cancel_wanted = True
        job.wake()

    async def close(self) -> None:
        """Stop watching; cancel what nobody else would watch."""
        unfinished = [job for job in self._jobs.values() if not job.done.is_set()]
        tasks = [job.task for job in unfinished if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._driver is not None:
            ours = (self._driver.abandon(job) for job in unfinished if job.ours)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.close_timeout):
                    await asyncio.gather(*ours, return_exceptions=True)
            await self._driver.client.close()
            self._driver = None
        for job in unfinished:
            if job.ours:
                job.end(TrainingStatusEnum.CANCELED, "closed", "the trainer was closed")
            job.done.set()

    # -- connections

    def _connected(self) -> Driver:
        if self._driver is None:
            config = self._config
            token = _secret(config.api_key_env)
            hub_token = _secret(config.hf_token_env) or token
            client = CustomizerClient(config.entity_host, token, self._settings)
            store = DataStore(config.datastore_host, hub_token, self._settings)
            self._driver = Driver(config, client, store, self._settings)
        return self._driver

    async def _ping(self) -> None:
        driver, config = self._connected(), self._config
        await asyncio.gather(
            driver.client.ping(config.namespace),
            driver.store.ping(f"{config.namespace}/{config.dataset_name}"),
        )

    # -- jobs

    def _of_spec(self, trajectories: TrajectoryCollection, spec: JobSpec) -> Job:
        config = spec.config
        if not isinstance(config, NeMoCustomizerTrainerAdapterConfig):
            message = f"the NeMo adapter cannot train a job of trainer {config.type}"
            raise ValueError(message)  # noqa: TRY004 - the value of a well-typed field is at fault
        for name in ("entity_host", "datastore_host", "namespace"):
            if getattr(config, name) != getattr(self._config, name):
                raise ValueError(f"the job's {name} is not the adapter's; make an adapter for it")
        load = _of_store(spec, spec.train, config) if spec.train else _of_rows(trajectories, config)
        return Job.pending(spec.run_id, spec.job_id, config, load, attempt=spec.attempt)

    async def _of_collection(self, trajectories: TrajectoryCollection) -> Job:
        records = await asyncio.to_thread(_of_rows(trajectories, self._config))
        if records.rows == 0:
            kind = self._config.hyperparameters.training_type
            raise ValueError(f"nothing in the collection can be trained on with {kind}: {records.reasons}")
        name = stable_id("job", trajectories.run_id, records.digest)
        return Job.pending(trajectories.run_id, name, self._config, lambda: records, ours=True)

    def _accept(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        job.task = asyncio.create_task(self._drive(job), name=f"nemo-{job.job_id}")
        finished = [name for name, one in self._jobs.items() if one.done.is_set()]
        for name in finished[:-_REMEMBERED]:
            del self._jobs[name]

    async def _drive(self, job: Job) -> None:
        try:
            driver = self._connected()
        except TrainingFailed as failure:
            job.end(TrainingStatusEnum.FAILED, failure.code, failure.message)
        else:
            await driver.drive(job)

    async def _find(self, ref: TrainingJobRef) -> Job:
        """Return a job of this adapter, or one that the service knows from earlier.

        Raises:
            UnknownJob: when there is none.
        """
        name = str((ref.metadata or {}).get("job_id", ""))
        async with self._resuming:
            if name not in self._jobs:
                await self._resume(ref, name)
        job = self._jobs[name]
        if job.run_id != ref.run_id:
            raise UnknownJob(ref)
        return job

    async def _resume(self, ref: TrainingJobRef, job_id: str) -> None:
        if ref.backend != BACKEND or not job_id:
            raise UnknownJob(ref)
        try:
            remote = await self._connected().client.find_job(ref.run_id, job_id, self._config.namespace)
        except ServiceError as error:
            raise as_failure(error) from error
        if remote is None:
            raise UnknownJob(ref)
        job = Job.pending(ref.run_id, job_id, self._config, None)
        job.remote = remote
        self._accept(job)


def _of_rows(
    trajectories: TrajectoryCollection, config: NeMoCustomizerTrainerAdapterConfig
) -> Callable[[], Records]:
    train, validation = split(trajectories.run_id, rows_of(trajectories), HELD_OUT)
    return lambda: make_records(train, validation, config)


def _of_store(
    spec: JobSpec, train: DatasetFile, config: NeMoCustomizerTrainerAdapterConfig
) -> Callable[[], Records]:
    store = ArtifactStore(spec.artifacts)

    def rows(file: DatasetFile | None) -> list[DatasetRow | None]:
        return list(read_rows(store.get_bytes(file.uri, file.sha256))) if file else []

    return lambda: make_records(rows(train), rows(spec.validation), config)


def _secret(name: str | None) -> SecretStr | None:
    """Read a token.

    Raises:
        TrainingFailed: when its variable is not set.
    """
    if name is None:
        return None
    value = os.environ.get(name)
    if not value:
        raise TrainingFailed("token_missing", f"set the environment variable {name}: it holds the token")
    return SecretStr(value)
