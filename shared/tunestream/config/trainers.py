"""Who trains: the local TRL backend, or a remote engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, field_validator, model_validator

from tunestream.config.base import EnvName, FreeForm, Section, kind_or
from tunestream.config.finetune import RewardFunctionConfig
from tunestream.config.model import InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.nemo import NeMoCustomizerHyperparameters, NIMDeploymentConfig
from tunestream.config.training import TrainingConfig
from tunestream.events import Objective

__all__ = [
    "ARTBackendConfig",
    "ARTTrainerAdapterConfig",
    "NeMoCustomizerTrainerAdapterConfig",
    "TRLTrainerConfig",
    "Trainer",
    "TrainerSection",
]


class TrainerSection(Section):
    """What every trainer has."""

    objective: Objective | None = None
    """By default `dpo` from pairs and `grpo` from episodes; `sft` takes both, `kto` pairs."""
    max_policy_lag: int | None = Field(default=None, ge=0)
    """Versions by which a batch may be older than the model; older ones are cancelled as `stale`."""
    max_queued: int | None = Field(default=None, ge=1)
    """Waiting jobs of a run; more cancel the oldest."""
    reward: RewardFunctionConfig | None = None
    """Taken from `reward_function` of the run."""


class TRLTrainerConfig(TrainerSection):
    """Training on this machine with TRL."""

    type: Literal["trl"] = Field(default="trl", alias="_type")
    model: ModelConfig
    lora: LoraConfig | None = LoraConfig()
    """`null` trains all weights."""
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

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


class ARTBackendConfig(Section):
    """Where an OpenPipe ART server listens and what it trains."""

    ip: str
    port: int = Field(ge=1, le=65535)
    name: str = "trainer_run"
    project: str = "trainer_project"
    base_model: str = "Qwen/Qwen2.5-7B-Instruct"
    api_key_env: EnvName | None = None
    delete_old_checkpoints: bool = False
    init_args: FreeForm | None = None
    engine_args: FreeForm | None = None
    server_config: FreeForm | None = None


class ARTTrainerAdapterConfig(TrainerSection):
    """Training by an OpenPipe ART server."""

    type: Literal["openpipe_art_trainer_adapter"] = Field(
        default="openpipe_art_trainer_adapter", alias="_type"
    )
    backend: ARTBackendConfig
    training: FreeForm | None = None


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
    """A deployment that fails is told in the status; the training counts all the same."""
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

    @field_validator("entity_host", "datastore_host")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _one_objective(cls, values: Any) -> Any:
        """What is said once, as ``objective`` or as ``training_type``, holds for both."""
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


Trainer = Annotated[
    Annotated[TRLTrainerConfig, Tag("trl")]
    | Annotated[ARTTrainerAdapterConfig, Tag("openpipe_art_trainer_adapter")]
    | Annotated[NeMoCustomizerTrainerAdapterConfig, Tag("nemo_customizer_trainer_adapter")],
    kind_or("trl"),
]
