"""The trainer section of a run that trains with TRL, on the trainer's machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import override

from tunestream.config.run.model import InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.run.trainers import TrainerSection
from tunestream.config.run.training import TrainingConfig
from tunestream.events.training import Objective

__all__ = ["TRLTrainerConfig"]


class TRLTrainerConfig(TrainerSection):
    """Training on this machine with TRL."""

    type: Literal["trl"] = Field(default="trl", alias="_type")
    model: ModelConfig
    lora: LoraConfig | None = LoraConfig()
    """`null` trains all weights."""
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @property
    @override
    def starts_from(self) -> str:
        return self.model.hf_model_ckpt

    @override
    def without_effect(self, objective: Objective) -> dict[tuple[str, ...], str]:
        others = (one for one in Objective if one is not objective)
        reason = f"does nothing: the run's objective is {objective}"
        return {
            ("inference",): "is not supported yet: generation is the serving side's",
            **{("training", f"{other}_args"): reason for other in others},
        }

    @model_validator(mode="after")
    def _quantised_weights_stay(self) -> TRLTrainerConfig:
        if self.model.quantize and self.lora is None:
            raise ValueError(
                "lora: null trains all weights, which quantised ones cannot be: set lora: {}, "
                "or model.quantize: false"
            )
        return self

    @model_validator(mode="after")
    def _kto_compares_within_a_batch(self) -> TRLTrainerConfig:
        training = self.training
        needs_two = self.objective is Objective.KTO and training.kto_args.loss_type == "kto"
        if needs_two and training.training_args.per_device_train_batch_size < 2:
            raise ValueError(
                "objective kto needs training.training_args.per_device_train_batch_size of 2 or "
                "more, or kto_args.loss_type: apo_zero_unpaired"
            )
        return self
