"""ART on this machine: its tokenising, advantages, packing and loss, with a service that holds the model."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import art
from art.local import LocalBackend
from art.transformers.patches import patch_preprocess_mask_arguments
from art.utils.output_dirs import get_model_dir, get_step_checkpoint_dir
from transformers import AutoTokenizer, set_seed

from tunestream.artifacts.trees import Manifest
from tunestream.events.models import Artifact
from tunestream.trainers.art.checkpoints import check_adapter
from tunestream.trainers.art.episodes import TokenIds
from tunestream.trainers.art.job import Job
from tunestream.trainers.art.traces import Trace
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.trl.logprobs import sampled_ids

__all__ = ["Local"]

_STEPS = "data/step_num_gradient_steps"


class Local(LocalBackend):  # type: ignore[misc]
    """This machine as one job uses it.

    Args:
        job: whose.
    """

    def __init__(self, job: Job) -> None:
        self.prepare()
        super().__init__(path=job.config.backend.path)
        self._job = job
        self._model = job.model()
        self._folder = Path(get_model_dir(self._model, job.config.backend.path))

    def prepare(self) -> None:
        """Prepare this process for what trains.

        Raises:
            TrainingFailed: when it is not installed.
        """
        if importlib.util.find_spec("unsloth") is None:
            raise TrainingFailed(
                "missing_dependency",
                "model_service unsloth needs a GPU and openpipe-art[backend] in an environment of its own: "
                "name its interpreter in TUNESTREAM_ART_PYTHON",
            )
        patch_preprocess_mask_arguments()  # made for the transformers that unsloth needs

    def token_ids(self) -> TokenIds:
        """Texts of tokens are found in the message by the model's tokenizer."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._model.base_model)
        except (OSError, ValueError) as error:
            message = f"trainer.backend.base_model {self._model.base_model!r} cannot be read: {error}"
            raise TrainingFailed("model_missing", message) from error
        return lambda texts, content: sampled_ids(texts, content, tokenizer)

    async def open(self) -> None:
        """Make the model known, and start its inference server."""
        set_seed(0)  # ART shuffles without one of its own
        await self._model.register(self, self._job.config.backend.server_config)

    async def step(self) -> int:
        """Return the model's latest step in its folder."""
        return int(await self._get_step(self._model))

    async def settle(self, earlier: Sequence[Trace]) -> list[str]:
        """Start from the job's parent: it becomes the latest step, unless it is."""
        del earlier  # they ended with their worker
        parent, step = self._job.spec.parent, await self.step()
        if parent is None:
            return [f"trained from step {step} of {self._folder}"] if step else []
        if step and Manifest.of(self._checkpoint(step)).digest == parent.sha256:
            return []
        if not parent.sha256:
            return [f"its parent {parent.uri} has no weights in the artifact store: trained from step {step}"]
        target = self._checkpoint(step + 1)
        await asyncio.to_thread(self._job.store.fetch_directory, parent.uri, parent.sha256, target)
        return [f"its parent was fetched as step {step + 1}"]

    async def keep_only(self, step: int) -> None:
        """Delete the folders of other checkpoints."""
        await self._delete_checkpoint_files(self._model, [step])

    async def train(self, groups: list[art.TrajectoryGroup], options: dict[str, Any]) -> dict[str, float]:
        """Train one step."""
        done = await super().train(self._model, groups, **options)
        metrics: dict[str, float] = done.metrics
        if not metrics.get(_STEPS):
            message = "ART found nothing to train on: the episodes are longer than packed_sequence_length"
            raise TrainingFailed("empty_dataset", message)
        return metrics

    async def is_complete(self, step: int) -> bool:
        """Return whether a step's folder holds a whole adapter; another one is removed."""
        folder = self._checkpoint(step)
        try:
            check_adapter(folder)
        except ValueError:
            await asyncio.to_thread(shutil.rmtree, folder)
            return False
        return True

    async def collect(self, step: int, folder: Path) -> tuple[Artifact, str]:
        """Put the checkpoint into the artifact store."""
        del folder
        checkpoint = self._checkpoint(step)
        check_adapter(checkpoint)
        stored = await asyncio.to_thread(self._job.store.put_directory, checkpoint)
        artifact = Artifact(uri=stored.uri, sha256=stored.sha256, kind="adapter")
        return artifact, f"by {self._job.config.backend.model_service}"

    def _checkpoint(self, step: int) -> Path:
        return Path(get_step_checkpoint_dir(str(self._folder), step))

    async def _train_model(self, *args: Any, **options: Any) -> AsyncIterator[dict[str, float]]:
        """Yield the metrics of each gradient step, and report how far it is; called by ``train``."""
        step = 0
        async for metrics in super()._train_model(*args, **options):
            step += 1
            self._job.stepped(step, int(metrics.get(_STEPS, 0)), metrics)
            yield metrics
            await asyncio.sleep(0)
