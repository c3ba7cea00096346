"""One job from its specification to its result."""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from tunestream.artifacts import ArtifactError, ArtifactStore, CheckpointStore, read_rows
from tunestream.events.dataset import DatasetRow
from tunestream.events.models import Artifact
from tunestream.events.training import DatasetFile, Objective
from tunestream.trainers.port import JobSpec, TrainingFailed, TrainingResult
from tunestream.trainers.trl.arguments import make_arguments
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.examples import Examples
from tunestream.trainers.trl.judging import Judging
from tunestream.trainers.trl.method import Encoder
from tunestream.trainers.trl.models import (
    context_length,
    has_finite_weights,
    load_policy,
    load_tokenizer,
    save_policy,
)
from tunestream.trainers.trl.objectives import find_method
from tunestream.trainers.trl.watch import Watch, curve, last_logged
from tunestream.trainers.worker.channel import Line

__all__ = ["train"]


def train(spec: JobSpec, line: Line) -> TrainingResult:
    """Train a job and store what it made.

    Raises:
        TrainingFailed: with a reason that a user can act on.
        JobCanceled: when the owner does not want it any more.
    """
    with tempfile.TemporaryDirectory(dir=line.scratch) as folder:
        try:
            return _Job(spec, line, Path(line.share(folder))).run()
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class _Job:
    """The state of one job while it is trained."""

    def __init__(self, spec: JobSpec, line: Line, folder: Path) -> None:
        self.spec = spec
        self.line = line
        self.folder = folder
        self.started = time.monotonic()
        self.config = _supported(spec)
        self.objective = self.config.objective or Objective.DPO
        self.method = find_method(self.objective)
        self.store = ArtifactStore(spec.artifacts)
        self.checkpoints = CheckpointStore(self.store, spec.job_id)

    def run(self) -> TrainingResult:
        training = self.config.training
        set_seed(training.training_args.seed)
        tokenizer = load_tokenizer(self.config.model)
        model, notes = load_policy(self.config, self._fetch_parent())
        encoder = Encoder(tokenizer, self._limit(model), training)
        rows = self.method.prepare(self._read(self.spec.train), encoder)
        measures = self.method.held_out(self._read(self.spec.validation), encoder)
        self._check_usable(rows)
        arguments, more = make_arguments(self.objective, training, self.folder / "output", encoder.limit)
        trainer: Any = self.method.trainer(
            rows.usable,
            model=model,
            args=arguments,
            processing_class=tokenizer,
            callbacks=[Watch(self.line.update, self._publish)],
        )
        judging = self._judging(encoder)
        before = [measure.score(trainer) for measure in measures]
        margins = judging.margins(trainer)
        metrics = self._fit(trainer, rows)
        self.line.update(phase="evaluating")
        for measure, scores in zip(measures, before, strict=True):
            metrics |= measure.compare(scores, measure.score(trainer))
        judged = judging.judged(margins, judging.margins(trainer))
        result = self._result(trainer, tokenizer, metrics, rows, notes + more)
        return result.model_copy(update={"judged": judged})

    def _fetch_parent(self) -> Path | None:
        parent = self.spec.parent
        if parent is None:
            return None
        if parent.is_remote:
            raise TrainingFailed(
                "parent_elsewhere",
                f"the run's current version stays at {parent.uri}, where the trl trainer cannot read it: "
                "train on with the backend that made it, or begin a run of another name",
            )
        folder = self.folder / "parent"
        if self.line.leads:
            self.store.fetch_directory(parent.uri, parent.sha256, folder)
        self.line.wait()
        return folder

    def _read(self, file: DatasetFile | None) -> list[DatasetRow | None]:
        return list(read_rows(self.store.get_bytes(file.uri, file.sha256))) if file else []

    def _judging(self, encoder: Encoder) -> Judging:
        most, rows = self.spec.judging_rows, list[DatasetRow | None]()
        for file in self.spec.judging:
            if len(rows) < most:
                rows += self._read(file)
        return Judging(rows, encoder, most)

    def _limit(self, model: Any) -> int | None:
        _, ours = self.config.training.length_limit(self.objective)
        limits = (ours, context_length(model))
        return min((limit for limit in limits if limit is not None), default=None)

    def _publish(self, checkpoint: Path, step: int) -> None:
        self.line.wait()  # each process has written its part
        if self.line.leads:
            (checkpoint / "training_args.bin").unlink()  # a pickle, and nothing needs it
            self.checkpoints.publish(checkpoint, attempt=self.spec.attempt, step=step)
            shutil.rmtree(checkpoint)

    def _fit(self, trainer: Any, rows: Examples[Any]) -> dict[str, float]:
        checkpoint = self.line.share(self._fetch_checkpoint() if self.line.leads else "")
        before = int(Path(checkpoint).name) if checkpoint else 0
        started = time.monotonic()
        output = trainer.train(resume_from_checkpoint=checkpoint or None)
        seconds = time.monotonic() - started
        if not has_finite_weights(trainer.model):
            raise TrainingFailed(
                "nan_loss",
                "the last step made weights that are not finite: lower training.training_args.learning_rate",
            )
        share = (output.global_step - before) / max(output.global_step, 1)
        epochs = self.config.training.training_args.num_train_epochs
        return {
            "train_loss": float(output.training_loss),
            "steps": float(output.global_step),
            "train_seconds": seconds,
            "tokens_per_second": rows.tokens * epochs * share / seconds,
            **last_logged(trainer.state.log_history),
        }

    def _fetch_checkpoint(self) -> str:
        """Return the folder of the furthest checkpoint, named for its step; "" when there is none."""
        for attempt, step in self.checkpoints.complete(before_attempt=self.spec.attempt):
            try:
                return str(self.checkpoints.fetch(self.folder / str(step), attempt=attempt, step=step))
            except ArtifactError as error:  # one further back, or none, gives the same weights later
                sys.stderr.write(
                    f"checkpoint {attempt}/{step} of job {self.spec.job_id} is passed over: {error}\n"
                )
        return ""

    def _check_usable(self, rows: Examples[Any]) -> None:
        if rows.usable:
            return
        if not rows.skipped:
            raise TrainingFailed("empty_dataset", "the batch has no rows; check the gate's selection")
        limit, _ = self.config.training.length_limit(self.objective)
        raise TrainingFailed(
            "empty_dataset",
            f"none of the batch's {rows.skipped.total()} rows can be trained on ({_counts(rows.skipped)}); "
            f"too_long: raise {limit}; no_chat_template: use a chat model or plain text prompts; wrong_kind: "
            f"objective {self.objective} does not learn from them; zero_variance: groups need episodes of "
            "different rewards; logprobs_mismatch: have the server write tokens as ids; else mend what the "
            "agents publish",
        )

    def _result(
        self, trainer: Any, tokenizer: Any, metrics: dict[str, float], rows: Examples[Any], notes: list[str]
    ) -> TrainingResult:
        self.line.update(phase="saving")
        artifact = self.line.share(self._store_policy(trainer, tokenizer) if self.line.leads else "")
        used = len(rows.usable)
        metrics |= {"rows": float(used), "seconds": time.monotonic() - self.started}
        return TrainingResult(
            artifact=Artifact.model_validate_json(artifact),
            metrics=metrics,
            rows_used=used,
            rows_skipped=dict(rows.skipped),
            message="; ".join([_summary(used, rows.skipped), *notes]),
            curve=curve(trainer.state.log_history),
        )

    def _store_policy(self, trainer: Any, tokenizer: Any) -> str:
        weights = self.folder / "weights"
        save_policy(trainer.model, tokenizer, weights, self.config.model.hf_model_ckpt)
        stored = self.store.put_directory(weights)
        kind = "full" if self.config.lora is None else "adapter"
        return Artifact(uri=stored.uri, sha256=stored.sha256, kind=kind).model_dump_json()


def _supported(spec: JobSpec) -> TRLTrainerConfig:
    if not isinstance(spec.config, TRLTrainerConfig):
        raise TrainingFailed("wrong_backend", f"{spec.config.type} is not the trl trainer", key="_type")
    return spec.config


def _summary(used: int, skipped: Counter[str]) -> str:
    if not skipped:
        return f"trained on {used} rows"
    return f"trained on {used} rows, left out {skipped.total()} ({_counts(skipped)})"


def _counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
