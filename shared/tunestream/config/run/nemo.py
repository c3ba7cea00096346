"""What a NeMo Customizer job and its deployment are set to, under the service's own names."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tunestream.config.run.section import Section

__all__ = [
    "DPOSpecificHyperparameters",
    "LoRASpecificHyperparameters",
    "NIMDeploymentConfig",
    "NeMoCustomizerHyperparameters",
    "NeMoOptimizer",
    "SFTSpecificHyperparameters",
]

NeMoOptimizer = Literal[
    "adam_with_cosine_annealing",
    "adam_with_flat_lr",
    "adamw_with_cosine_annealing",
    "adamw_with_flat_lr",
]


class DPOSpecificHyperparameters(Section):
    """The NeMo Customizer's DPO settings."""

    ref_policy_kl_penalty: float = Field(default=0.1, ge=0.0)
    """DPO's beta: how far the policy may go from the reference."""
    preference_loss_weight: float = Field(default=1.0, ge=0.0)
    preference_average_log_probs: bool = False
    """Mean instead of sum over a response's tokens."""
    sft_loss_weight: float = Field(default=0.0, ge=0.0)
    sft_average_log_probs: bool | None = None
    max_grad_norm: float | None = Field(default=None, gt=0.0)


class SFTSpecificHyperparameters(Section):
    """The NeMo Customizer's SFT settings."""

    attention_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    hidden_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)


class LoRASpecificHyperparameters(Section):
    """The NeMo Customizer's LoRA settings."""

    adapter_dim: int | None = Field(default=None, ge=1)
    """The rank, a power of 2."""
    alpha: int | None = Field(default=None, ge=1)
    adapter_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    target_modules: list[str] | None = Field(default=None, min_length=1)


class NeMoCustomizerHyperparameters(Section):
    """The hyperparameters of a NeMo Customizer job; what is `null` is left to the service."""

    training_type: Literal["sft", "dpo"] = "dpo"
    """By default what `objective` says."""
    finetuning_type: Literal["lora", "lora_merged", "all_weights"] = "all_weights"
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0.0)
    min_learning_rate: float | None = Field(default=None, ge=0.0)
    optimizer: NeMoOptimizer | None = None
    adam_beta1: float | None = Field(default=None, ge=0.0, lt=1.0)
    adam_beta2: float | None = Field(default=None, ge=0.0, lt=1.0)
    weight_decay: float | None = Field(default=None, ge=0.0)
    warmup_steps: int | None = Field(default=None, ge=0)
    max_steps: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    log_every_n_steps: int | None = Field(default=None, ge=1)
    val_check_interval: float | None = Field(default=None, gt=0.0)
    """Steps, or up to 1.0 a share of an epoch."""
    sequence_packing_enabled: bool | None = None
    dpo: DPOSpecificHyperparameters = DPOSpecificHyperparameters()
    sft: SFTSpecificHyperparameters | None = None
    lora: LoRASpecificHyperparameters | None = None

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.lora is not None and self.finetuning_type == "all_weights":
            raise ValueError("lora needs finetuning_type lora or lora_merged; all_weights has no adapter")
        if self.sft is not None and self.training_type != "sft":
            raise ValueError(f"sft needs training_type sft, not {self.training_type}")
        return self


class NIMDeploymentConfig(Section):
    """How a finished model is deployed as a NIM."""

    image_name: str = "nvcr.io/nim/meta/llama-3.1-8b-instruct"
    image_tag: str = "latest"
    gpu: int = Field(default=1, ge=1)
    deployment_name: str | None = None
    description: str = "Fine-tuned model deployment"
