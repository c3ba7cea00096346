"""Trains one job with the services: dataset, job, watch, deployment. Loads their clients."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import Final

import structlog

from tunestream.artifacts import ArtifactError, ArtifactStore, read_rows
from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.dataset import DatasetRow
from tunestream.events.models import Artifact
from tunestream.events.training import DatasetFile, TrainingStatusEnum
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.datasets import upload
from tunestream.trainers.nemo.deployment import deploy
from tunestream.trainers.nemo.errors import failure_of, lost_sight
from tunestream.trainers.nemo.records import Records, make_records
from tunestream.trainers.nemo.request import JobRequest, model_of, name_of, rows_of
from tunestream.trainers.nemo.services import Services
from tunestream.trainers.nemo.states import Verdict, Watch
from tunestream.trainers.nemo.views import JobView, StatusView
from tunestream.trainers.port import (
    JobSpec,
    Progress,
    Report,
    TrainingCanceled,
    TrainingFailed,
    TrainingResult,
)
from tunestream.trainers.remote import Refused, ServiceError, Unavailable

__all__ = ["Training"]

log = structlog.get_logger(__name__)
_SLOWER: Final = 1.5  # each look that fails delays the next one by this factor


class Training:
    """One job, from its dataset to its model.

    Args:
        services: train it.
        spec: the job; without rows it is only watched.
        config: what to train and how.
        report: takes how far it is.
    """

    def __init__(
        self, services: Services, spec: JobSpec, config: NeMoCustomizerTrainerAdapterConfig, report: Report
    ) -> None:
        self._services = services
        self._spec = spec
        self._config = config
        self._report = report
        self._unwanted = asyncio.Event()

    def cancel(self) -> None:
        """End the job, in the service too."""
        self._unwanted.set()

    async def run(self) -> TrainingResult:
        """Bring the job to its end.

        Raises:
            TrainingFailed: when it cannot be trained.
            TrainingCanceled: when it was canceled, here or in the service.
        """
        try:
            remote = await self._find() or await self._create()
            verdict, view = await self._watch(remote)
            if verdict.reason in {"stalled", "state_unknown"}:
                await self._ask_to_end(remote)
            return await self._conclude(remote, verdict, view)
        except (ServiceError, ArtifactError) as error:
            raise failure_of(error) from error

    # -- dataset and job

    async def _find(self) -> JobView | None:
        """Return what an earlier attempt or owner created, unless this attempt replaces it."""
        spec = self._spec
        found = await self._services.client.find_job(spec.run_id, spec.job_id, self._services.namespace)
        if found is None or JobRequest.is_replaced(found, spec.attempt):
            return None
        log.info("nemo.job_adopted", job=spec.job_id, remote=found.id, state=found.status)
        return found

    async def _create(self) -> JobView:
        """Upload the dataset and create the job."""
        spec, services = self._spec, self._services
        records = await self._records()
        self._check_wanted()
        await services.prepare()
        self._report(Progress(message="uploading the dataset"))
        dataset = f"{self._config.dataset_name}-{name_of(spec.job_id)}"
        commit = await upload(services, spec, self._config, dataset, records)
        self._check_wanted()
        request = JobRequest(spec.run_id, spec.job_id, self._config, dataset, commit, records)
        created = await services.client.ensure_job(request, services.namespace, attempt=spec.attempt)
        log.info("nemo.job_created", job=spec.job_id, remote=created.id, dataset=dataset, commit=commit)
        return created

    def _check_wanted(self) -> None:
        if self._unwanted.is_set():
            raise TrainingCanceled("canceled", "canceled before it started")

    async def _records(self) -> Records:
        if self._spec.train is None:
            raise TrainingFailed("job_vanished", "the customizer has no such job any more")
        records = await asyncio.to_thread(_read_records, self._spec, self._spec.train, self._config)
        if records.rows == 0:
            reasons = records.reasons or "there is none"
            raise TrainingFailed("empty_dataset", f"no row can be trained on: {reasons}")
        return records

    # -- watch

    async def _watch(self, remote: JobView) -> tuple[Verdict, StatusView]:
        watch = Watch(self._services.settings, monotonic())
        failures, asked = 0, False
        while True:
            if self._unwanted.is_set():
                watch.cancel(monotonic())
                asked = asked or await self._ask_to_end(remote)
            try:
                view = await self._services.client.status(remote.id)
            except ServiceError as error:
                failures += 1
                if failures >= self._config.max_consecutive_status_failures:
                    raise lost_sight(error, remote.id) from error
                log.warning("nemo.status_failed", job=self._spec.job_id, failures=failures, reason=str(error))
            else:
                failures = 0
                verdict = watch.judge(view, monotonic())
                if verdict.status in TERMINAL:
                    return verdict, view
                self._report(Progress(percent=verdict.progress or 0.0, message=verdict.message))
            await self._pause(self._config.poll_interval_seconds * _SLOWER**failures)

    async def _pause(self, seconds: float) -> None:
        """Wait until the next look is due; a cancellation makes it due at once."""
        if self._unwanted.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._unwanted.wait()

    async def _ask_to_end(self, remote: JobView) -> bool:
        """Cancel the service's job; False when it could not be asked."""
        try:
            await self._services.client.cancel(remote.id)
        except Unavailable as error:
            log.warning("nemo.cancel_failed", job=self._spec.job_id, reason=str(error))
            return False
        except Refused as refused:  # it ended by itself, or is gone: the next look shows it
            log.info("nemo.cancel_refused", job=self._spec.job_id, reason=str(refused))
        return True

    # -- the end

    async def _conclude(self, remote: JobView, verdict: Verdict, view: StatusView) -> TrainingResult:
        code = verdict.reason or "training_failed"
        if verdict.status is TrainingStatusEnum.FAILED:
            raise TrainingFailed(code, verdict.message)
        if verdict.status is TrainingStatusEnum.CANCELED:
            raise TrainingCanceled(code, verdict.message)
        model = model_of(remote, self._spec.job_id, self._services.namespace)
        message = f"trained {model}"
        if self._config.deploy_on_completion:
            self._report(Progress(percent=100.0, message=f"{message}; deploying it"))
            message += f"; {await self._deploy(model)}"
        rows, skipped = rows_of(remote)
        adapter = self._config.hyperparameters.finetuning_type == "lora"
        return TrainingResult(
            artifact=Artifact(uri=f"nemo://{model}", sha256="", kind="adapter" if adapter else "full"),
            metrics=_metrics(view, rows),
            rows_used=rows,
            rows_skipped=skipped,
            message=message,
        )

    async def _deploy(self, model: str) -> str:
        return await deploy(
            self._services.client, self._config, self._spec.job_id, model, unwanted=self._unwanted.is_set
        )


def _read_records(spec: JobSpec, train: DatasetFile, config: NeMoCustomizerTrainerAdapterConfig) -> Records:
    store = ArtifactStore(spec.artifacts)

    def rows(file: DatasetFile | None) -> list[DatasetRow | None]:
        return list(read_rows(store.get_bytes(file.uri, file.sha256))) if file else []

    return make_records(rows(train), rows(spec.validation), config)


def _metrics(view: StatusView, rows: int) -> dict[str, float]:
    measured = {
        "rows": float(rows),
        "steps": view.steps_completed,
        "epochs": view.epochs_completed,
        "seconds": view.elapsed_time,
        "train_loss": view.train_loss,
        "validation_loss": view.val_loss,
    }
    return {name: value for name, value in measured.items() if value is not None}
