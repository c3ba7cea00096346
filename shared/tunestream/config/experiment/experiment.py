"""An experiment: one file that takes a model from examples to a judgement.

The names are the experiment toolkit's; the sections model, lora and training are those of a run.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tunestream.config.experiment.data import DataConfig
from tunestream.config.experiment.row_format import RowFormat
from tunestream.config.run.model import InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.run.section import EnvName, Section
from tunestream.config.run.trainers import TrainerSection, trainer_section
from tunestream.config.run.training import TrainingConfig
from tunestream.events.training import Objective

__all__ = ["AblationConfig", "Config", "ExperimentInferenceConfig", "QaConfig"]

_TRAINABLE: Final = (Objective.SFT, Objective.DPO, Objective.KTO)


class AblationConfig(Section):
    """A grid of settings; any scalar given as a list is one of its axes."""

    use_ablate: bool = False
    """Kept for the toolkit's files: lists make a grid with and without it."""
    study_name: str = Field(default="ablation", min_length=1)
    seeds: list[int] = []
    """Each arm is run once with each; by default once, with the file's `seed`."""
    metric: str = "exact_match"
    """What chooses the best arm: a metric of `qa.llm_metrics`, or of the training, e.g. `train_loss`."""
    direction: Literal["max", "min"] | None = None
    """By default `min` for losses, else `max`."""

    @property
    def minimises(self) -> bool:
        """Whether the best arm has the smallest value."""
        return self.direction == "min" if self.direction else "loss" in self.metric


class ExperimentInferenceConfig(InferenceConfig):
    """How the test rows are answered."""

    batch_size: int = Field(default=8, ge=1)
    """Prompts that are answered together, or requests under way at an endpoint."""
    endpoint: str | None = None
    """Base address of an OpenAI-compatible server, e.g. http://localhost:8000/v1; null generates here."""
    endpoint_model: str | None = None
    """The base model's name there; by default `model.hf_model_ckpt`."""
    api_key_env: EnvName | None = None

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("write an address such as http://localhost:8000/v1")
        if "@" in parts.netloc:
            raise ValueError("holds a user or password; name an environment variable in api_key_env instead")
        return value.rstrip("/")


class QaConfig(Section):
    """How the answers are judged."""

    llm_metrics: list[str] = []
    """Names of metrics; `exact_match` is always taken."""
    test_suite: str | None = None
    """A folder of CSV banks."""
    baseline: bool = True
    """Judge the untuned model beside the tuned one."""
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Of the intervals."""
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap draws of an interval."""
    embedding_model: str | None = None
    """For dot_product and cosine_similarity."""

    @model_validator(mode="before")
    @classmethod
    def _without_tagger(cls, values: Any) -> Any:
        """Read manifests of experiments that were run while `tagger` was a setting."""
        if isinstance(values, dict) and values.get("tagger", "") is None:
            return {name: value for name, value in values.items() if name != "tagger"}
        return values


class Config(Section):
    """One experiment, or a study when it has lists."""

    save_dir: str = "./experiments"
    seed: int = Field(default=42, ge=0)
    """Of training, generation and resampling; the split has its own, so that seeds share it."""
    objective: Objective | None = None
    """`sft` by default, `dpo` for data with two answers; `kto` and `sft` take these too."""
    ablation: AblationConfig = AblationConfig()
    data: DataConfig
    model: ModelConfig
    lora: LoraConfig | None = LoraConfig()
    """`null` trains all weights."""
    training: TrainingConfig = TrainingConfig()
    inference: ExperimentInferenceConfig = ExperimentInferenceConfig()
    qa: QaConfig = QaConfig()

    @field_validator("objective")
    @classmethod
    def _can_be_trained(cls, value: Objective | None) -> Objective | None:
        if value is not None and value not in _TRAINABLE:
            raise ValueError(f"must be one of {', '.join(_TRAINABLE)}: {value} learns from a run's episodes")
        return value

    @model_validator(mode="after")
    def _objective_fits(self) -> Self:
        if self.objective in self._judging and not self.data.is_open:
            raise ValueError(f"objective {self.objective} needs data.chosen and data.rejected")
        _ = self.trainer
        return self

    @property
    def _judging(self) -> set[Objective]:
        """Objectives for which the data lacks the other answer."""
        if self.data.has_preferences:
            return set()
        return {Objective.DPO} if self.data.format is RowFormat.KTO else {Objective.DPO, Objective.KTO}

    @property
    def learns(self) -> Objective:
        """What is optimised."""
        if self.data.format is RowFormat.KTO:
            return self.objective or Objective.KTO
        return self.objective or (Objective.DPO if self.data.has_preferences else Objective.SFT)

    @property
    def seeded_training(self) -> TrainingConfig:
        """How is trained, with the experiment's seed unless the section has its own."""
        arguments = self.training.training_args
        if "seed" in arguments.model_fields_set:
            return self.training
        return self.training.model_copy(
            update={"training_args": arguments.model_copy(update={"seed": self.seed})}
        )

    @property
    def trainer(self) -> TrainerSection:
        """The trainer section of a run that trains as this experiment does."""
        settings = {"model": self.model, "lora": self.lora, "training": self.seeded_training}
        return trainer_section("trl").model_validate({"objective": self.learns, **settings})

    def document(self) -> dict[str, Any]:
        """Return every setting, defaults filled in, as JSON values."""
        return self.model_dump(mode="json")
