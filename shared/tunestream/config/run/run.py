"""A run: one document that defines how a model is trained from its agents' events."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import reduce
from hashlib import sha256
from operator import getitem
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from tunestream.config.nat.inert import InertValues, with_inert, without_inert
from tunestream.config.run.curriculum import CurriculumLearning, CurriculumLearningConfig
from tunestream.config.run.durations import Duration
from tunestream.config.run.evaluation import EvaluationConfig
from tunestream.config.run.reward import RewardFunctionConfig
from tunestream.config.run.section import AddedIn, Section, added
from tunestream.config.run.serving import Servers
from tunestream.config.run.trainers import Trainer, TrainerReading
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig, TrajectoryBuilder
from tunestream.events.runs import FIRST_FORMAT, TURN_FORMAT, RunRecord
from tunestream.events.training import Objective

__all__ = ["BatchingConfig", "OfflineConfig", "RunConfig", "json_schema"]

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_OBJECTIVES: Final = {
    "dpo_traj_builder": (Objective.DPO, Objective.SFT, Objective.KTO),
    "openpipe_art_traj_builder": (Objective.GRPO, Objective.SFT),
}
"""Trajectory builder → what can be optimised with its trajectories, the default first."""


class BatchingConfig(Section):
    """When a window of groups becomes a training batch."""

    window_pairs: int = Field(default=384, ge=1)
    """Trajectories with which a window closes, counted before selection."""
    min_batch_pairs: int = Field(default=32, ge=1)
    """Trajectories that a window needs to close by `max_wait`."""
    max_wait: Duration = timedelta(seconds=60)
    """Stream time after a window's first group at which it closes, if it has `min_batch_pairs`."""
    flush_after: Duration = timedelta(seconds=60)
    """Stream time after a window's last group at which it closes with what it has."""
    validation_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the prompts that are held out from training for the run's life."""
    seed: int = Field(default=0, ge=0)
    """Of the curriculum's subsampling."""


class OfflineConfig(Section):
    """The sections that work without a run: what the offline commands read."""

    trajectory_builder: TrajectoryBuilder = DPOTrajectoryBuilderConfig()
    curriculum_learning: CurriculumLearning = CurriculumLearningConfig()
    batching: BatchingConfig = BatchingConfig()


class RunConfig(Section):
    """One run."""

    run_id: str
    """Names the run in every topic and in the artifact store."""
    target_model: str | None = Field(default=None, min_length=1)
    """The name under which serving knows the adapter; by default the run's id."""
    reward_function: RewardFunctionConfig | None = None
    scores: Annotated[Literal["published", "later"], AddedIn(TURN_FORMAT)] = "published"
    """Whether candidates come with their scores, or some scores come later."""
    trajectory_builder: TrajectoryBuilder = DPOTrajectoryBuilderConfig()
    curriculum_learning: CurriculumLearning = CurriculumLearningConfig()
    batching: BatchingConfig = BatchingConfig()
    trainer: Trainer
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: Servers = []

    _inert: InertValues = PrivateAttr(default_factory=dict)
    _recorded_digest: str | None = PrivateAttr(default=None)

    @field_validator("run_id")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _RUN_ID.fullmatch(value):
            raise ValueError("use 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first")
        return value

    @field_validator("trainer")
    @classmethod
    def _objective_fits(cls, trainer: Trainer, info: ValidationInfo) -> Trainer:
        builder = info.data.get("trajectory_builder")
        if builder is None:
            return trainer
        possible = [one for one in _OBJECTIVES[builder.type] if one in trainer.objectives]
        if not possible:
            names = " or ".join(sorted(trainer.objectives))
            raise ValueError(f"{trainer.type} trains {names} as it is set, which does not fit {builder.type}")
        if trainer.objective is None:
            return trainer.model_copy(update={"objective": possible[0]})
        if trainer.objective not in possible:
            names = " or ".join(possible)
            raise ValueError(f"objective {trainer.objective} does not fit {builder.type}; set {names}")
        return trainer

    @property
    def objective(self) -> Objective:
        """What the jobs optimise."""
        return self.trainer.objective or _OBJECTIVES[self.trajectory_builder.type][0]

    @property
    def served_name(self) -> str:
        """The name under which serving knows the model."""
        return self.target_model or self.run_id

    @property
    def digest(self) -> str:
        """The first 32 hexadecimal characters of the sha256 of the canonical document.

        Two files that mean the same have the same digest, however they are written. One that was read from
        the ``runs`` topic keeps the digest that it has there.
        """
        if self._recorded_digest is not None:
            return self._recorded_digest
        text = json.dumps(
            self._recorded(),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return sha256(text.encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """Return the native shape with every default filled in, as JSON values."""
        return self.model_dump(mode="json")

    def complete(self) -> dict[str, Any]:
        """Return the document, with the settings of the toolkit that do nothing."""
        return with_inert(self.document(), self._inert)

    def needed_format(self) -> tuple[int, list[str]]:
        """Return the first format whose release reads the record, and the settings that need it."""
        set_ = [(number, ".".join(path)) for path, number, default in added(self) if not default]
        number = max((number for number, _ in set_), default=FIRST_FORMAT)
        return number, [name for one, name in set_ if one == number]

    def to_record(self) -> RunRecord:
        """Return the configuration as it travels in the ``runs`` topic."""
        return RunRecord(run_id=self.run_id, digest=self.digest, config=self._recorded())

    def _recorded(self) -> dict[str, Any]:
        """Return the document without what a format added and nobody has set."""
        config = self.complete()
        for (*sections, name), _, default in added(self):
            if default:
                reduce(getitem, sections, config).pop(name, None)
        return config

    def with_settings_of_the_toolkit(self, inert: InertValues) -> RunConfig:
        """Return the run with settings that do nothing: its record and its digest keep them."""
        config = self.model_copy()
        config._inert = inert  # noqa: SLF001 - of this class
        return config

    @classmethod
    def from_record(cls, record: RunRecord, *, trainer: TrainerReading = "opaque") -> RunConfig:
        """Read a configuration from the ``runs`` topic; its trainer may be missing here.

        Args:
            record: of the topic.
            trainer: ``opaque`` keeps the trainer section as it was written; ``installed`` reads it as its
                backend's, and keeps it as it was written where no backend here can read it.

        Raises:
            pydantic.ValidationError: when another version of tunestream wrote what this one cannot read.
        """
        values, inert = without_inert(record.config)
        config = cls.model_validate(values, context={"trainer": trainer}).with_settings_of_the_toolkit(inert)
        if config.digest != record.digest:  # it holds what this version leaves out
            config._recorded_digest = record.digest  # noqa: SLF001 - of this class
        return config


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a run's file in the native shape."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | RunConfig.model_json_schema()
