"""One job from its specification to its result; loads ART."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import art
from openai.types.chat.chat_completion import Choice

from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.events.dataset import DatasetRow
from tunestream.events.ids import stable_id
from tunestream.events.models import Artifact
from tunestream.trainers.art.config import ARTTrainerAdapterConfig, ARTTrainingConfig
from tunestream.trainers.art.episodes import Examined, Played, TokenIds, examine
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.art.traces import Trace, Traces
from tunestream.trainers.port import JobSpec, TrainingFailed, TrainingResult
from tunestream.trainers.worker.channel import Channel

__all__ = ["Job", "Way"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CURVE: Final = 1000  # gradient steps whose loss is kept
_METRICS: Final = {
    "loss/train": "train_loss",
    "loss/grad_norm": "grad_norm",
    "loss/entropy": "entropy",
    "loss/kl_div": "kl_div",
    "time/step_trainer_s": "train_seconds",
    "data/step_num_gradient_steps": "steps",
    "data/step_trainer_tokens": "tokens",
}
"""ART's names of what it measures → ours."""


class Way(Protocol):
    """One of ART's backends, with what a job needs of it."""

    def token_ids(self) -> TokenIds:
        """Tell how the ids of sampled tokens are found."""

    async def open(self) -> None:
        """Make the model known."""

    async def step(self) -> int:
        """Return the model's latest step."""

    async def settle(self, earlier: Sequence[Trace]) -> list[str]:
        """Wait until nothing trains the model any more, and start from ``JobSpec.parent``.

        Returns what there is to say about it.
        """

    async def keep_only(self, step: int) -> None:
        """Delete the other checkpoints."""

    async def train(self, groups: list[art.TrajectoryGroup], options: dict[str, Any]) -> dict[str, float]:
        """Train one step, or go on with one that was sent before; returns ART's metrics."""

    async def is_complete(self, step: int) -> bool:
        """Tell whether a step that an earlier attempt made can be used; what cannot is removed."""

    async def collect(self, step: int, folder: Path) -> tuple[Artifact, str]:
        """Return where a step's checkpoint is, and what there is to say about it."""

    async def close(self) -> None:
        """Let go."""


class Job:
    """The state of one job while it is trained.

    Args:
        spec: what to train.
        channel: takes its progress, and tells when it is not wanted any more.
        settings: deadlines.
    """

    def __init__(self, spec: JobSpec, channel: Channel, settings: ARTSettings) -> None:
        if not isinstance(spec.config, ARTTrainerAdapterConfig):
            raise TrainingFailed("wrong_backend", f"trainer._type is {spec.config.type}; this is ART")
        self.spec = spec
        self.config = spec.config
        self.channel = channel
        self.settings = settings
        self.store = ArtifactStore(spec.artifacts)
        self.name = self.config.backend.name or _name_of(spec.run_id)
        self.traces = Traces(self.store, self.config.backend, self.name)
        self._notes: list[str] = []
        self._curve: list[dict[str, float]] = []
        self._started = time.monotonic()

    async def run(self) -> TrainingResult:
        """Train the job and store what it made.

        Raises:
            TrainingFailed: with a reason that a user can act on.
            JobCanceled: when the owner does not want it any more.
        """
        known = self.traces.find(self.spec.job_id)
        if known is not None and known.result is not None:
            return known.result
        way = self._way()
        try:
            found = examine(self._rows(), way.token_ids())
            if not found.groups:
                raise TrainingFailed("empty_dataset", f"{found.summary}. {found.remedies}")
            await way.open()
            trace = known or await self._begin(way)
            return await self._go_on(way, trace, found)
        finally:
            await way.close()

    def _way(self) -> Way:
        if self.config.backend.kind == "serverless":
            from tunestream.trainers.art.serverless import Serverless  # noqa: PLC0415

            return Serverless(self)
        from tunestream.trainers.art.local import Local  # noqa: PLC0415 - loads all that trains

        return Local(self)

    def model(self) -> art.TrainableModel:
        """Return the model as ART knows it."""
        backend = self.config.backend
        inner = {
            name: value
            for name in ("init_args", "peft_args", "trainer_args", "engine_args")
            if (value := getattr(backend, name)) is not None
        }
        return art.TrainableModel(
            name=self.name,
            project=backend.project,
            entity=backend.entity,
            base_model=backend.base_model,
            base_path=backend.path,
            _internal_config=inner or None,
        )

    def _rows(self) -> list[DatasetRow | None]:
        file = self.spec.train
        return [] if file is None else list(read_rows(self.store.get_bytes(file.uri, file.sha256)))

    async def _begin(self, way: Way) -> Trace:
        """Write the model's step down before anything is trained."""
        self._notes += await way.settle([trace for trace in self.traces.all() if trace.running])
        step = await way.step()
        if self.config.backend.delete_old_checkpoints and step:
            await self._delete_all_but(way, step)
        return self.traces.keep(Trace(job_id=self.spec.job_id, before=step))

    async def _delete_all_but(self, way: Way, step: int) -> None:
        try:
            await way.keep_only(step)
        except Exception as error:  # noqa: BLE001 - old checkpoints do not stop a training
            self._notes.append(f"old checkpoints were not deleted: {error}")

    async def _go_on(self, way: Way, trace: Trace, found: Examined) -> TrainingResult:
        metrics: dict[str, float] = {}
        step = await way.step()
        if trace.remote is None and step > trace.before and await way.is_complete(step):
            self.note(f"step {step} was there before this attempt trained: it is taken for the job's")
        else:
            metrics = await self._train(way, found)
            step = await way.step()
        if step <= trace.before:
            self.traces.forget(self.spec.job_id)
            raise TrainingFailed("no_step", f"ART says that it trained, but its step is still {step}")
        self.channel.update(phase="saving")
        result = await self._result(way, step, metrics, found)
        self.traces.keep(self.trace().model_copy(update={"running": False, "result": result}))
        return result

    async def _train(self, way: Way, found: Examined) -> dict[str, float]:
        self.channel.update(phase="training")
        try:
            return await way.train(_groups(found.groups), _options(self.config))
        except TrainingFailed as failure:
            if failure.code not in {"service_unreachable", "stalled"}:  # else the service may go on
                self.traces.forget(self.spec.job_id)
            raise

    async def _result(
        self, way: Way, step: int, metrics: Mapping[str, float], found: Examined
    ) -> TrainingResult:
        with TemporaryDirectory(dir=self.channel.scratch) as folder:
            artifact, said = await way.collect(step, Path(folder) / "checkpoint")
        counts = {"rows": float(found.used), "step": float(step), "seconds": time.monotonic() - self._started}
        return TrainingResult(
            artifact=artifact,
            metrics=_measured(metrics) | counts,
            curve=self._curve,
            rows_used=found.used,
            rows_skipped=dict(found.skipped),
            message="; ".join([f"trained step {step} on {found.summary}", *self._notes, said]),
        )

    def stepped(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Tell of a gradient step.

        Raises:
            JobCanceled: when the job should stop.
        """
        measured = _measured(metrics)
        loss = measured.get("train_loss")
        if loss is not None and len(self._curve) < _CURVE:
            self._curve.append({"step": float(step), "loss": loss})
        self.channel.update(step=step, total=max(step, total), loss=loss)

    def note(self, text: str) -> None:
        """Have something said in the job's last status."""
        self._notes.append(text)

    def trace(self) -> Trace:
        """Return the job's trace, which it has once it began."""
        trace = self.traces.find(self.spec.job_id)
        if trace is None:
            raise RuntimeError("the job has not begun")
        return trace


def _measured(metrics: Mapping[str, float]) -> dict[str, float]:
    found = {ours: float(metrics[theirs]) for theirs, ours in _METRICS.items() if theirs in metrics}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _name_of(run_id: str) -> str:
    return run_id if _NAME.fullmatch(run_id) else stable_id("run", run_id)


def _groups(groups: Sequence[Sequence[Played]]) -> list[art.TrajectoryGroup]:
    return [art.TrajectoryGroup([_trajectory(one) for one in members]) for members in groups]


def _trajectory(played: Played) -> art.Trajectory:
    messages = [Choice.model_validate(one) if "finish_reason" in one else one for one in played.messages]
    return art.Trajectory(
        messages_and_choices=messages,
        tools=played.tools,
        reward=played.reward,
        metadata={"example_id": played.example_id},
    )


def _options(config: ARTTrainerAdapterConfig) -> dict[str, Any]:
    """Return what is set, under the names of ART's ``train``; what is not set is left to ART."""
    training = config.training or ARTTrainingConfig()
    options = training.model_dump(exclude={"beta", "loss_fn"}, exclude_none=True)
    if config.backend.kind == "serverless":
        return {**options, "ppo": training.loss_fn == "ppo"}
    if training.packed_sequence_length and not training.logprob_calculation_chunk_size:
        options["logprob_calculation_chunk_size"] = training.packed_sequence_length
    return {**options, "loss_fn": training.loss_fn, "kl_penalty_coef": training.beta}
