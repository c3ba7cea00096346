"""The NeMo Agent Toolkit's own fine-tuning sections, under its names."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SerializeAsAny, model_validator

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.reward import RewardFunctionConfig
from tunestream.config.run.section import Section

__all__ = ["FinetuneConfig", "FinetuneRunConfig"]


class FinetuneRunConfig(Section):
    """How the toolkit's own command runs its workflow; agents publish events here instead."""

    config_file: Path | SerializeAsAny[BaseModel] | None = None
    dataset: str | Path | None = None
    result_json_path: str = "$"
    endpoint: str | None = None
    endpoint_timeout: int = Field(default=300, gt=0)
    """Seconds."""
    override: tuple[tuple[str, str], ...] = ()
    validation_dataset: str | Path | None = None
    validation_interval: int = Field(default=5, ge=1)
    validation_config_file: str | Path | None = None


class FinetuneConfig(Section):
    """The toolkit's ``finetuning`` section: which of the named components make the run."""

    enabled: bool = False
    trainer: str | None = None
    trajectory_builder: str | None = None
    trainer_adapter: str | None = None
    reward_function: RewardFunctionConfig | None = None
    target_functions: list[str] = ["<workflow>"]
    target_model: str | None = None
    curriculum_learning: CurriculumLearningConfig = CurriculumLearningConfig()
    num_epochs: int = Field(default=1, ge=1)
    output_dir: Path = Path("./.tmp/nat/finetuning/")
    run_configuration: FinetuneRunConfig | None = None

    @model_validator(mode="after")
    def _components_are_named(self) -> FinetuneConfig:
        names = ("trainer", "trajectory_builder", "trainer_adapter")
        missing = [name for name in names if getattr(self, name) is None]
        if self.enabled and missing:
            raise ValueError(f"enabled needs {', '.join(missing)}: the names of components in the maps")
        return self
