"""The NeMo Customizer as a backend, and the reference's life cycle over it.

What the extra ``nemo`` installs is imported when a service is asked for the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from tunestream.config.run.trainers import TrainerSection
from tunestream.events.training import TrainingJobRef
from tunestream.events.trajectories import TrajectoryCollection
from tunestream.trainers.backend import TrainerBackend
from tunestream.trainers.collection_rows import Rows, rows_of
from tunestream.trainers.harness import TrainerAdapter
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.errors import failure_of
from tunestream.trainers.nemo.records import HELD_OUT, make_records, split
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.port import (
    JobSpec,
    Report,
    Start,
    Stop,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
    stop_of,
)
from tunestream.trainers.remote import ServiceError
from tunestream.trainers.retry import Retry

if TYPE_CHECKING:
    from tunestream.trainers.nemo.services import Services
    from tunestream.trainers.nemo.train import Training

__all__ = ["BACKEND", "NeMoBackend", "NeMoCustomizerTrainerAdapter"]


class NeMoBackend:
    """Trains with the NeMo Customizer: DPO on preferences, or SFT on the best responses.

    A job's dataset has a repository and a commit of its own. The service's job carries our job's name and is
    looked for before one is created: another attempt goes on watching it. A failed or cancelled job is
    trained again by a higher attempt only. A job that is stopped as CANCELED is ended in the service;
    SHUTDOWN and LOST leave it running there.

    Every job starts from the model of ``customization_config``; a JobSpec's parent is not used. The model
    stays in the service: the artifact of the result names it as ``nemo://namespace/name@version`` and has
    no digest.

    Args:
        config: where the services are, and the namespace; a job brings the rest of its section.
        settings: deadlines and attempts; by default from the environment.
    """

    def __init__(
        self, config: NeMoCustomizerTrainerAdapterConfig, settings: NeMoSettings | None = None
    ) -> None:
        self.settings = settings or NeMoSettings()
        self._config = config
        self._services: Services | None = None
        self._running: set[asyncio.Task[TrainingResult]] = set()

    async def check(self) -> None:
        """Ask both services, and change nothing.

        Raises:
            TrainingFailed: when a service does not answer or refuses, a token's variable is not set, or the
                extra ``nemo`` is not installed.
        """
        try:
            await self._connected().ping()
        except ServiceError as error:
            raise failure_of(error) from error

    async def knows(self, run_id: str, job_id: str) -> bool:
        """Return whether the service has a job that was made for this one.

        Raises:
            TrainingFailed: when it does not answer or refuses.
        """
        try:
            found = await self._connected().client.find_job(run_id, job_id, self._config.namespace)
        except ServiceError as error:
            raise failure_of(error) from error
        return found is not None

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Train a job, or go on watching it; see :meth:`tunestream.trainers.Backend.train`.

        A job that completes though it was to be canceled returns its result.
        """
        training = self._training(spec, report)
        running = asyncio.create_task(training.run(), name=f"nemo-{spec.job_id}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await _watched(running, training)
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def close(self) -> None:
        """Stop watching, and close the connections; jobs go on in the service."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._services is not None:
            await self._services.close()
            self._services = None

    def _training(self, spec: JobSpec, report: Report) -> Training:
        config = spec.config
        if not isinstance(config, NeMoCustomizerTrainerAdapterConfig):
            raise TrainingFailed(
                "wrong_backend", f"trainer._type is {config.type}; this is the NeMo Customizer"
            )
        services = self._connected()
        from tunestream.trainers.nemo.train import Training  # noqa: PLC0415 - needs the extra

        return Training(services, spec, config, report)

    def _connected(self) -> Services:
        if self._services is None:
            try:
                from tunestream.trainers.nemo.services import Services  # noqa: PLC0415 - needs the extra
            except ModuleNotFoundError as error:
                raise TrainingFailed(
                    "missing_dependency",
                    f"the nemo trainer needs {error.name}: pip install 'tunestream[nemo]'",
                ) from error
            self._services = Services(self._config, self.settings)
        return self._services


async def _watched(running: asyncio.Task[TrainingResult], training: Training) -> TrainingResult:
    """Await a training; the first wish to cancel it is passed on, and its end awaited."""
    stopped: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            if stopped is not None or stop_of(error) is not Stop.CANCELED:
                raise
            stopped = error
            training.cancel()
    if running.cancelled():
        raise TrainingFailed("closed", "the trainer was closed")
    failure = running.exception()
    if stopped is not None and isinstance(failure, TrainingCanceled) and failure.code == "canceled":
        raise stopped
    return running.result()


class NeMoCustomizerTrainerAdapter(TrainerAdapter):
    """The reference's life cycle over the NeMo Customizer.

    A fifth of a collection's prompts is held out for validation. After a restart, :meth:`submit` of the same
    job or :meth:`status` of its reference go on watching it. :meth:`close` cancels jobs that were submitted
    without a JobSpec; the others go on in the service.

    Args:
        adapter_config: the run's trainer section.
        artifacts: URL of the artifact store; by default from the environment.
        backend: trains; by default one of its own.
        retry: of jobs without a JobSpec.
    """

    backend: NeMoBackend
    adapter_config: NeMoCustomizerTrainerAdapterConfig

    def __init__(
        self,
        adapter_config: NeMoCustomizerTrainerAdapterConfig,
        *,
        artifacts: str | None = None,
        backend: NeMoBackend | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(adapter_config, artifacts=artifacts, backend=backend, retry=retry)
        self.close_seconds = self.backend.settings.close_timeout

    @override
    def rows(self, trajectories: TrajectoryCollection, config: TrainerSection) -> Rows:
        assert isinstance(config, NeMoCustomizerTrainerAdapterConfig)
        train, validation = split(trajectories.run_id, rows_of(trajectories), HELD_OUT)
        records = make_records(train, validation, config)
        if records.rows == 0:
            kind = config.hyperparameters.training_type
            raise ValueError(f"nothing in the collection can be trained on with {kind}: {records.reasons}")
        return Rows(config, train, validation)

    @override
    def accept(self, spec: JobSpec) -> None:
        super().accept(spec)
        for name in ("entity_host", "datastore_host", "namespace"):
            if getattr(spec.config, name) != getattr(self.adapter_config, name):
                raise ValueError(f"the job's {name} is not the adapter's; make an adapter for it")

    @override
    async def adopt(self, ref: TrainingJobRef) -> JobSpec | None:
        name = str((ref.metadata or {}).get("job_id", ""))
        if not await self.backend.knows(ref.run_id, name):
            return None
        return JobSpec(run_id=ref.run_id, job_id=name, config=self.adapter_config, artifacts=self.artifacts)


def _open(config: NeMoCustomizerTrainerAdapterConfig, artifacts: str) -> NeMoBackend:
    del artifacts  # each job brings its own; models stay in the service
    return NeMoBackend(config)


async def _check(config: NeMoCustomizerTrainerAdapterConfig) -> None:
    backend = NeMoBackend(config)
    try:
        await backend.check()
    finally:
        await backend.close()


def _shares(config: NeMoCustomizerTrainerAdapterConfig) -> Hashable:
    return (
        config.entity_host,
        config.datastore_host,
        config.namespace,
        config.create_namespace_if_missing,
        config.api_key_env,
        config.hf_token_env,
    )


BACKEND: Final = TrainerBackend(
    config=NeMoCustomizerTrainerAdapterConfig,
    open=_open,
    starts_from=Start.BASE,
    shares=_shares,
    check=_check,
    reference="nemo-customizer",
)
