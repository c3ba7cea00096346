"""ART's training service: jobs are sent to it, and watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

import art
from art.metrics_taxonomy import build_training_summary_metrics, summarize_trajectory_groups
from art.serverless.client import ExperimentalTrainingConfig

from tunestream.events.models import Artifact
from tunestream.trainers.art.checkpoints import check_adapter
from tunestream.trainers.art.episodes import TokenIds, ids_as_written
from tunestream.trainers.art.errors import as_failure
from tunestream.trainers.art.job import Job
from tunestream.trainers.art.service import Event, NotTaken, Service
from tunestream.trainers.art.traces import Trace
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import Refused, ServiceError, Unavailable

__all__ = ["Serverless"]

_STEPS: Final = "data/step_num_gradient_steps"


class _Adopted(Exception):
    """The model has a new step though nobody answered that the job was taken."""


class Serverless(Service):
    """The service as one job uses it.

    What goes over the wire is ART's; watched is by us: a service that is away for a while, or answers
    nonsense, does not end a job that it trains.

    Args:
        job: whose.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job.config.backend, job.settings)
        self._job = job
        self._model = job.model()

    def token_ids(self) -> TokenIds:
        """Ids must be written by the server: here is no tokenizer."""
        return ids_as_written

    async def open(self) -> None:
        """Create the model in the service, unless it is there."""
        await self._ask(lambda: self.register(self._model))
        if not self._model.id:
            raise TrainingFailed("service_refused", "the service gave the model no id")

    async def step(self) -> int:
        """Return the model's latest step in the service."""
        return await self._get_step(self._model)

    async def settle(self, earlier: Sequence[Trace]) -> list[str]:
        """Wait for jobs that were canceled here and that the service goes on to train."""
        for trace in earlier:
            if trace.remote is not None:
                await self._outlast(trace.remote)
            self._job.traces.keep(trace.model_copy(update={"running": False}))
        parent, step = self._job.spec.parent, await self.step()
        if parent is None or self._is_step(parent, step):
            return []
        return [f"the service trained from its latest step {step}, not from the run's current version"]

    async def keep_only(self, step: int) -> None:
        """Delete the other checkpoints in the service."""
        await self._ask(lambda: self._delete_checkpoint_files(self._model, [step]))

    async def train(self, groups: list[art.TrajectoryGroup], options: dict[str, Any]) -> dict[str, float]:
        """Send the job, unless it was sent, and watch it to its end."""
        try:
            done = await super().train(self._model, groups, **options)
        except _Adopted:
            return {}
        except ServiceError as error:
            raise as_failure(error) from error
        metrics: dict[str, float] = done.metrics
        return metrics

    async def is_complete(self, step: int) -> bool:
        """The service shows complete steps only."""
        return step > 0

    async def collect(self, step: int, folder: Path) -> tuple[Artifact, str]:
        """Copy the checkpoint into the artifact store if the service gives it; else only name it."""
        uri = self._model_inference_name(self._model, step)
        if not self._job.config.backend.pull_checkpoints:
            return Artifact(uri=uri, sha256="", kind="adapter"), f"its weights stay at {uri}"
        try:
            async with asyncio.timeout(self._settings.pull_timeout):
                await asyncio.to_thread(self._pull, step, folder)
            check_adapter(folder)
        except Exception as error:  # noqa: BLE001 - weights that cannot be copied were trained all the same
            note = f"its weights stay at {uri}, for they cannot be copied: {type(error).__name__}: {error}"
            return Artifact(uri=uri, sha256="", kind="adapter"), note
        stored = await asyncio.to_thread(self._job.store.put_directory, folder)
        return Artifact(uri=stored.uri, sha256=stored.sha256, kind="adapter"), f"copied from {uri}"

    def _pull(self, step: int, folder: Path) -> None:
        """Copy a checkpoint; ART's method blocks the loop that it runs in."""
        with asyncio.Runner() as runner:
            runner.run(
                self._experimental_pull_model_checkpoint(self._model, step=step, local_path=str(folder))
            )

    # -- one training

    async def _train_model(
        self,
        model: art.TrainableModel,
        trajectory_groups: list[art.TrajectoryGroup],
        config: art.TrainConfig,
        dev_config: dict[str, Any],
        verbose: bool = False,  # noqa: ARG002
    ) -> AsyncIterator[dict[str, float]]:
        """Yield the metrics of each gradient step; called by ``train``."""
        summary = summarize_trajectory_groups(trajectory_groups)
        base = build_training_summary_metrics(summary, include_trainable_groups=True)
        names = ExperimentalTrainingConfig.__annotations__
        experimental = {name: dev_config.get(name) for name in names}
        body = {
            "model_id": model.id,
            "trajectory_groups": trajectory_groups,
            "experimental_config": {**experimental, "learning_rate": config.learning_rate},
        }
        remote = self._job.trace().remote or await self._send(body)
        total, found = 0, list[dict[str, float]]()
        async for event in self._events(remote):
            if event.type == "training_started":
                total = int(event.numbers.get("num_sequences", 0))
            elif event.type == "gradient_step":
                found.append(event.metrics)
                self._job.stepped(len(found), total, found[-1])
        self._over()
        for metrics in found:
            yield {**base, **metrics, _STEPS: float(len(found))}

    async def _send(self, body: dict[str, Any]) -> str:
        """Create the job.

        Raises:
            _Adopted: when nobody answered, and the model got a new step.
        """
        for left in reversed(range(self._settings.attempts)):
            try:
                return await self._create(body)
            except NotTaken:
                if not left:
                    raise
                await asyncio.sleep(self._settings.retry_delay)
            except Unavailable as error:
                await self._look_for_step()
                if not left:
                    raise
                self._job.note(f"the job was sent again, for nobody answered that it was taken: {error}")
        raise AssertionError("unreachable")

    async def _create(self, body: dict[str, Any]) -> str:
        created = await self._once(lambda: self._client.training_jobs.create(**body))
        remote = getattr(created, "id", None)
        if not isinstance(remote, str) or not remote:
            raise Unavailable("the answer names no job")
        self._job.traces.keep(self._job.trace().model_copy(update={"remote": remote, "running": True}))
        return remote

    async def _look_for_step(self) -> None:
        before, until = self._job.trace().before, monotonic() + self._settings.lost_timeout
        while monotonic() < until:
            step = await self.step()
            if step > before:
                self._job.note(f"nobody answered that the job was taken; step {step} is taken for the job's")
                raise _Adopted
            self._job.channel.update()
            await asyncio.sleep(self._settings.poll_interval)

    async def _events(self, remote: str) -> AsyncIterator[Event]:
        """Yield what the service reports of a job, until it has ended.

        Raises:
            TrainingFailed: when the job failed or vanished, or nothing is heard of it any more.
        """
        after: str | None = None
        heard = changed = monotonic()
        while True:
            try:
                events = await self._ask(lambda: self._list_events(remote, after))  # noqa: B023 - awaited here
            except Unavailable as error:
                if monotonic() - heard > self._settings.unreachable_timeout:
                    raise as_failure(error) from error
                events = []
            except Refused as refused:
                await self._vanished(remote, refused)
                return
            else:
                heard = monotonic()
            for event in events:
                after, changed = event.id, heard
                if event.type == "training_ended":
                    return
                if event.type == "training_failed":
                    reason = event.data.get("error_message") or "without a reason"
                    raise TrainingFailed("training_failed", f"the service's job {remote} failed: {reason}")
                yield event
            if monotonic() - changed > (limit := self._settings.silent_timeout):
                raise TrainingFailed("stalled", f"no event of the service's job {remote} for {limit:g} s")
            self._job.channel.update()
            await asyncio.sleep(self._settings.poll_interval)

    async def _vanished(self, remote: str, refused: Refused) -> None:
        """Do without a job that the service has forgotten, if it left a step.

        Raises:
            TrainingFailed: when it did not.
        """
        if refused.status != 404:
            raise as_failure(refused) from refused
        trace = self._job.traces.find(self._job.spec.job_id)
        if trace is not None and trace.remote == remote and await self.step() > trace.before:
            self._job.note(f"the service has forgotten its job {remote}; the new step is taken for the job's")
            return
        message = f"the service does not know its job {remote} any more: {refused}"
        raise TrainingFailed("job_vanished", message) from refused

    async def _outlast(self, remote: str) -> None:
        try:
            async for _ in self._events(remote):
                pass
        except TrainingFailed as failure:
            if failure.code == "service_unreachable":
                raise

    def _over(self) -> None:
        trace = self._job.traces.find(self._job.spec.job_id)
        if trace is not None and trace.running:
            self._job.traces.keep(trace.model_copy(update={"running": False}))

    def _is_step(self, parent: Artifact, step: int) -> bool:
        if parent.uri == self._model_inference_name(self._model, step):
            return True
        made = (trace.result for trace in self._job.traces.all())
        return any(one.artifact == parent and one.metrics.get("step") == step for one in made if one)
