"""The life of one job: dataset, job, watch, deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Final, NoReturn

import structlog

from tunestream.artifacts import ArtifactCorrupt, ArtifactError
from tunestream.events.models import Artifact
from tunestream.events.training import TrainingStatusEnum
from tunestream.trainers.nemo.client import CustomizerClient
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.data_store import DataStore
from tunestream.trainers.nemo.deployment import deploy
from tunestream.trainers.nemo.errors import as_failure
from tunestream.trainers.nemo.jobs import Job
from tunestream.trainers.nemo.records import Records
from tunestream.trainers.nemo.request import JobRequest, model_of, name_of, rows_of
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.nemo.states import TERMINAL, Verdict, Watch
from tunestream.trainers.nemo.views import Anything, JobView, StatusView
from tunestream.trainers.port import TrainingFailed, TrainingResult
from tunestream.trainers.remote import Refused, ServiceError, Unavailable

__all__ = ["Driver"]

log = structlog.get_logger(__name__)
_TRAINING: Final = "training/training_file.jsonl"
_VALIDATION: Final = "validation/validation_file.jsonl"
_SLOWER: Final = 1.5  # each look that fails delays the next one by this factor


class Driver:
    """Drives jobs to their end.

    Args:
        config: where the services are, and the namespace.
        client: entity store, customizer, deployment.
        store: datasets.
        settings: deadlines.
    """

    def __init__(
        self,
        config: NeMoCustomizerTrainerAdapterConfig,
        client: CustomizerClient,
        store: DataStore,
        settings: NeMoSettings,
    ) -> None:
        self.client = client
        self.store = store
        self._config = config
        self._settings = settings
        self._preparing = asyncio.Lock()
        self._prepared = False

    async def prepare(self) -> None:
        """Create the namespace in both stores, once, if the configuration says so.

        Raises:
            ServiceError: when a store cannot be reached or refuses.
        """
        async with self._preparing:
            if self._prepared or not self._config.create_namespace_if_missing:
                return
            namespace = self._config.namespace
            await self.client.create_or_accept(
                lambda service: service.namespaces.create(id=namespace, description="tunestream datasets")
            )
            await self.store.create_namespace(namespace)
            self._prepared = True

    async def drive(self, job: Job) -> None:
        """Bring a job to its end and tell about it."""
        try:
            await self._live(job)
        except ServiceError as error:
            failure = as_failure(error)
            job.end(TrainingStatusEnum.FAILED, failure.code, failure.message)
        except TrainingFailed as failure:
            job.end(TrainingStatusEnum.FAILED, failure.code, failure.message)
        except Exception as error:
            job.end(TrainingStatusEnum.FAILED, "internal", f"{type(error).__name__}: {error}")
            raise
        log.info("nemo.job_ended", job=job.job_id, status=job.status.status, message=job.status.message)

    async def _live(self, job: Job) -> None:
        job.remote = job.remote or await self._find(job) or await self._create(job)
        if job.remote is None:
            job.end(TrainingStatusEnum.CANCELED, "canceled", "canceled before it started")
            return
        verdict, view = await self._watch(job, job.remote)
        if verdict.status is TrainingStatusEnum.COMPLETED:
            await self._complete(job, job.remote, view)
        else:
            if verdict.reason in {"stalled", "state_unknown"}:
                await self._ask_to_end(job, job.remote)
            job.tell(verdict, {"reason": verdict.reason})
            job.done.set()

    # -- dataset and job

    async def _find(self, job: Job) -> JobView | None:
        """Return what an earlier owner of the job created, unless this attempt replaces it."""
        found = await self.client.find_job(job.run_id, job.job_id, self._config.namespace)
        if found is None or JobRequest.is_replaced(found, job.attempt):
            return None
        log.info("nemo.job_adopted", job=job.job_id, remote=found.id, state=found.status)
        return found

    async def _create(self, job: Job) -> JobView | None:
        """Upload the dataset and create the job; None when it was canceled before that."""
        records = await self._records(job)
        if job.cancel_wanted:
            return None
        await self.prepare()
        job.say("uploading the dataset")
        dataset = f"{job.config.dataset_name}-{name_of(job.job_id)}"
        commit = await self._upload(job, dataset, records)
        if job.cancel_wanted:
            return None
        request = JobRequest(job.run_id, job.job_id, job.config, dataset, commit, records)
        created = await self.client.ensure_job(request, self._config.namespace, attempt=job.attempt)
        log.info("nemo.job_created", job=job.job_id, remote=created.id, dataset=dataset, commit=commit)
        return created

    async def _records(self, job: Job) -> Records:
        if job.load is None:
            raise TrainingFailed("job_vanished", "the customizer has no such job any more")
        try:
            records = await asyncio.to_thread(job.load)
        except ArtifactError as error:
            code = "artifact_corrupt" if isinstance(error, ArtifactCorrupt) else "artifact_missing"
            raise TrainingFailed(code, f"the dataset cannot be read: {error}") from error
        if records.rows == 0:
            said = records.reasons or "there is none"
            raise TrainingFailed("empty_dataset", f"no row can be trained on: {said}")
        return records

    async def _upload(self, job: Job, dataset: str, records: Records) -> str:
        files = {_TRAINING: records.train}
        if records.validation:
            files[_VALIDATION] = records.validation
        if job.config.dataset_output_dir:
            await asyncio.to_thread(_keep, Path(job.config.dataset_output_dir) / job.job_id, files)
        commit = await self.store.upload(
            f"{self._config.namespace}/{dataset}", files, f"job {job.job_id} of run {job.run_id}"
        )
        await self._register(job, dataset, commit)
        return commit

    async def _register(self, job: Job, dataset: str, commit: str) -> None:
        """Make the dataset known to the customizer, with its commit."""
        namespace = self._config.namespace
        url = f"hf://datasets/{namespace}/{dataset}" + (f"@{commit}" if job.config.pin_commit else "")
        created = await self.client.create_or_accept(
            lambda service: service.datasets.create(
                name=dataset,
                namespace=namespace,
                files_url=url,
                description=f"tunestream run {job.run_id}",
                custom_fields={"tunestream_commit": commit},
            )
        )
        if not created:
            await self.client.call(
                lambda service: service.datasets.update(dataset, namespace=namespace, files_url=url), Anything
            )

    # -- watch

    async def _watch(self, job: Job, remote: JobView) -> tuple[Verdict, StatusView]:
        watch = Watch(self._settings, monotonic())
        failures, asked = 0, False
        while True:
            if job.cancel_wanted:
                watch.cancel(monotonic())
                asked = asked or await self._ask_to_end(job, remote)
            try:
                view = await self.client.status(remote.id)
            except ServiceError as error:
                failures += 1
                if failures >= job.config.max_consecutive_status_failures:
                    _give_up(error, remote)
                log.warning("nemo.status_failed", job=job.job_id, failures=failures, reason=str(error))
            else:
                failures = 0
                verdict = watch.judge(view, monotonic())
                if verdict.status in TERMINAL:
                    return verdict, view
                job.tell(verdict)
            await job.pause(job.interval * _SLOWER**failures)

    async def _ask_to_end(self, job: Job, remote: JobView) -> bool:
        """Cancel the service's job; False when it could not be asked."""
        try:
            await self.client.cancel(remote.id)
        except Unavailable as error:
            log.warning("nemo.cancel_failed", job=job.job_id, reason=str(error))
            return False
        except Refused as refused:  # it ended by itself, or is gone: the next look tells
            log.info("nemo.cancel_refused", job=job.job_id, reason=str(refused))
        return True

    async def abandon(self, job: Job) -> None:
        """End the service's job without watching it; also one whose creation was not answered yet."""
        remote = job.remote or await self.client.find_job(job.run_id, job.job_id, self._config.namespace)
        if remote is not None:
            await self._ask_to_end(job, remote)

    # -- the end

    async def _complete(self, job: Job, remote: JobView, view: StatusView) -> None:
        model = model_of(remote, job.job_id, self._config.namespace)
        message = f"trained {model}"
        if job.config.deploy_on_completion:
            job.tell(Verdict(TrainingStatusEnum.RUNNING, f"{message}; deploying it", 100.0))
            unwanted = lambda: job.cancel_wanted  # noqa: E731
            message += f"; {await deploy(self.client, job.config, job.job_id, model, unwanted=unwanted)}"
        rows, skipped = rows_of(remote)
        adapter = job.config.hyperparameters.finetuning_type == "lora"
        result = TrainingResult(
            artifact=Artifact(uri=f"nemo://{model}", sha256="", kind="adapter" if adapter else "full"),
            metrics=_metrics(view, rows),
            rows_used=rows,
            rows_skipped=skipped,
            message=message,
        )
        job.complete(message, result.model_dump(mode="json"))


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


def _give_up(error: ServiceError, remote: JobView) -> NoReturn:
    if isinstance(error, Refused) and error.status == 404:
        message = f"the customizer does not know its job {remote.id} any more: {error}"
        raise TrainingFailed("job_vanished", message) from error
    raise error


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a copy of what is uploaded."""
    for name, content in files.items():
        target = folder / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
