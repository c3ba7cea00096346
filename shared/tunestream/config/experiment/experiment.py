"""An experiment: one file that takes a model from examples to a judgement.

The names are the experiment toolkit's; the sections model, lora and training are those of a run.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tunestream.config.run.model import InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.run.section import EnvName, Section
from tunestream.config.run.trainers import TrainerSection, trainer_section
from tunestream.config.run.training import TrainingConfig
from tunestream.events.training import Objective

__all__ = [
    "AblationConfig",
    "Config",
    "DataConfig",
    "ExperimentInferenceConfig",
    "QaConfig",
    "StreamConfig",
    "columns_of",
]

_TEMPLATES: Final = ("prompt", "prompt_stub", "messages", "chosen", "rejected")
_TRAINABLE: Final = (Objective.SFT, Objective.DPO, Objective.KTO)


def columns_of(template: str | None) -> tuple[str, ...]:
    """Return the names in a template's braces, each once, in order.

    Raises:
        ValueError: when the braces are not those of a template of names.
    """
    if template is None:
        return ()
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if not all(name.isidentifier() or _plain(name) for name in names):
        raise ValueError("may hold only names of columns in braces; write {{ and }} for braces themselves")
    return tuple(dict.fromkeys(names))


def _plain(name: str) -> bool:
    return bool(name) and not any(sign in name for sign in "[]")


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


class StreamConfig(Section):
    """Trajectories of a run, as the examples of an experiment."""

    run_id: str = Field(min_length=1)
    topic: Literal["trajectories"] = "trajectories"
    start: int = Field(default=0, ge=0)
    """First offset that is read, in the partition of the run."""
    end: int | None = Field(default=None, ge=1)
    """Offset before which reading ends; by default the partition's end as of now."""

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} must lie behind start {self.start}")
        return self


class DataConfig(Section):
    """Where the examples are, and what becomes prompt and answer."""

    file_type: Literal["json", "jsonl", "csv", "parquet", "huggingface", "stream"] | None = None
    """By default from the ending of `path`; a folder or a name on the hub is `huggingface`."""
    path: str | None = Field(default=None, min_length=1)
    """A file, a folder with a Hugging Face dataset, or its name on the hub."""
    revision: str | None = None
    """Of a dataset on the hub: a branch, tag or commit."""
    stream: StreamConfig | None = None
    prompt: str | None = None
    """Template, columns in `{}`."""
    prompt_stub: str | None = None
    """Template of the answer, of exactly one column: the ground truth."""
    messages: str | None = None
    """Column with chat messages, instead of `prompt` and `prompt_stub`; the last one is the answer."""
    chosen: str | None = None
    """Template of the preferred answer, for `dpo` and `kto`."""
    rejected: str | None = None
    """Template of the other answer."""
    train_size: float | int = Field(default=0.9, gt=0)
    """Share of the rows, or their number."""
    test_size: float | int = Field(default=0.1, ge=0)
    """Share of the rows, or their number."""
    validation_size: float | int = Field(default=0, ge=0)
    """Rows beside both whose loss is taken before and after the training; a share, or their number."""
    train_test_split_seed: int = Field(default=42, ge=0)
    stratify_by: str | None = None
    """Column whose values have the same share in each part."""
    group_by: str | None = None
    """Column whose values are never spread over parts."""
    deduplicate: bool = False
    """Keep the first of equal rows; otherwise they are only reported."""

    @field_validator("prompt", "prompt_stub", "chosen", "rejected")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        columns_of(value)
        return value

    @field_validator("prompt_stub")
    @classmethod
    def _one_column(cls, value: str | None) -> str | None:
        if value is not None and len(columns_of(value)) != 1:
            raise ValueError("must name exactly one column in braces, e.g. '{output}': the ground truth")
        return value

    @field_validator("train_size", "test_size", "validation_size")
    @classmethod
    def _share_or_number(cls, value: float) -> float | int:
        if value > 1 and value != int(value):
            raise ValueError("must be a whole number of rows, or a share from 0 to 1")
        return int(value) if value > 1 else value

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if (self.file_type == "stream") != (self.stream is not None) and self.file_type is not None:
            raise ValueError("file_type: stream and the section 'stream' go together")
        if (self.path is None) == (self.stream is None):
            raise ValueError("needs either path, or the section 'stream'")
        return self

    @model_validator(mode="after")
    def _has_answers(self) -> Self:
        if self.stream is not None:
            return self._nothing_beside_the_stream()
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected go together")
        if self.chosen is not None and self.prompt_stub is not None:
            raise ValueError("prompt_stub does nothing beside chosen and rejected; remove it")
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs either prompt (a template), or messages (a column)")
        if self.messages is not None and self.prompt_stub is not None:
            raise ValueError("prompt_stub does nothing beside messages, whose last one is the answer")
        if self.messages is None and self.chosen is None and self.prompt_stub is None:
            raise ValueError("prompt needs prompt_stub, the answer's template, or chosen and rejected")
        return self

    def _nothing_beside_the_stream(self) -> Self:
        given = [name for name in _TEMPLATES if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: trajectories have prompts and answers of their own")
        return self

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        shares = [s for s in (self.train_size, self.test_size, self.validation_size) if isinstance(s, float)]
        if sum(shares) > 1 + 1e-9:
            raise ValueError("train_size, test_size and validation_size are more than the whole together")
        if self.stratify_by and self.group_by:
            raise ValueError("stratify_by and group_by exclude each other")
        return self

    @property
    def has_preferences(self) -> bool:
        """Whether rows hold two answers."""
        return self.chosen is not None or self.stream is not None


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
        if self.objective in {Objective.DPO, Objective.KTO} and not self.data.has_preferences:
            raise ValueError(f"objective {self.objective} needs data.chosen and data.rejected")
        _ = self.trainer
        return self

    @property
    def learns(self) -> Objective:
        """What is optimised."""
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
