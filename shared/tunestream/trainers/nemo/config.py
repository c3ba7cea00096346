"""The trainer section of the NeMo Customizer: its services, its jobs and deployments, under its own names."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from tunestream.config.run.section import EnvName, Section
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.training import Objective

__all__ = [
    "DPOSpecificHyperparameters",
    "LoRASpecificHyperparameters",
    "NIMDeploymentConfig",
    "NeMoCustomizerHyperparameters",
    "NeMoCustomizerTrainerAdapterConfig",
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
    """By default as `objective`."""
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


class NeMoCustomizerTrainerAdapterConfig(TrainerSection):
    """Training by the NeMo Customizer service; trainer and adapter fields in one section."""

    type: Literal["nemo_customizer_trainer_adapter"] = Field(
        default="nemo_customizer_trainer_adapter", alias="_type"
    )
    entity_host: str
    """URL of the entity store, the customizer and the deployment service."""
    datastore_host: str
    """URL of the data store."""
    api_key_env: EnvName | None = None
    """Environment variable with the bearer token of the services."""
    hf_token_env: EnvName | None = None
    """Environment variable with the data store's token; by default `api_key_env`."""
    namespace: str
    dataset_name: str = "nat-dpo"
    """Each job has a dataset of its own: this name and the job's."""
    pin_commit: bool = True
    """Datasets are registered with the commit; false for services that take no `@revision` in a URL."""
    dataset_output_dir: str | None = None
    """Where a copy of each uploaded dataset stays, a folder for each job."""
    create_namespace_if_missing: bool = True
    customization_config: str
    hyperparameters: NeMoCustomizerHyperparameters = NeMoCustomizerHyperparameters()
    use_full_message_history: bool = True
    """False trains on the last message of each prompt alone."""
    deploy_on_completion: bool = False
    """The status shows a deployment that fails; the training counts all the same."""
    deployment_config: NIMDeploymentConfig = NIMDeploymentConfig()
    poll_interval_seconds: float = Field(default=30.0, gt=0.0)
    deployment_timeout_seconds: float = Field(default=1800.0, gt=0.0)
    max_consecutive_status_failures: int = Field(default=3, ge=1, le=10)
    """Looks at a job that fail one after another, each tried several times, before the job is given up."""
    num_runs: int = Field(default=1, ge=1)
    """The toolkit's collection runs; means nothing here."""
    continue_on_collection_error: bool = False
    """The toolkit's collection runs; means nothing here."""
    deduplicate_pairs: bool = True
    max_pairs: int | None = Field(default=None, ge=1)
    """Rows of a job; more are drawn by their content, the same ones every time."""
    wait_for_completion: bool = True
    """Jobs are always watched to their end; means nothing here."""

    @property
    @override
    def objectives(self) -> frozenset[Objective]:
        return frozenset({Objective(self.hyperparameters.training_type)})

    @property
    @override
    def starts_from(self) -> str:
        return self.customization_config

    @field_validator("entity_host", "datastore_host")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _one_objective(cls, values: Any) -> Any:
        """What is given once, as ``objective`` or as ``training_type``, holds for both."""
        if not isinstance(values, dict):
            return values
        sent, objective = values.get("hyperparameters"), values.get("objective")
        kind = sent.get("training_type") if isinstance(sent, dict) else None
        if objective is None and kind is not None:
            return {**values, "objective": kind}
        if objective in {"dpo", "sft"} and kind is None and (sent is None or isinstance(sent, dict)):
            return {**values, "hyperparameters": {**(sent or {}), "training_type": str(objective)}}
        return values

    @model_validator(mode="after")
    def _objective_is_trained(self) -> Self:
        if self.objective not in {None, self.hyperparameters.training_type}:
            raise ValueError(
                f"objective {self.objective} is not hyperparameters.training_type "
                f"{self.hyperparameters.training_type}; the customizer trains dpo or sft: set one of the two"
            )
        return self
