"""Who trains: the local TRL backend, or a remote engine."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from typing_extensions import override

from tunestream.config.nat.finetune import RewardFunctionConfig
from tunestream.config.run.art import ARTBackendConfig, ARTTrainingConfig
from tunestream.config.run.model import InferenceConfig, LoraConfig, ModelConfig
from tunestream.config.run.nemo import NeMoCustomizerHyperparameters, NIMDeploymentConfig
from tunestream.config.run.plugins import NotInstalled, installed_trainers, load_trainer
from tunestream.config.run.section import EnvName, Section, kind_of
from tunestream.config.run.training import TrainingConfig
from tunestream.events.training import Objective

__all__ = [
    "ARTBackendConfig",
    "ARTTrainerAdapterConfig",
    "ARTTrainingConfig",
    "ForeignTrainerConfig",
    "NeMoCustomizerTrainerAdapterConfig",
    "TRLTrainerConfig",
    "Trainer",
    "TrainerSection",
    "trainer_section",
]


class TrainerSection(Section):
    """What every trainer has.

    A backend of one's own subclasses it, with a literal ``type`` whose default is its name.
    """

    type: str = Field(alias="_type")
    objective: Objective | None = None
    """By default `dpo` from pairs and `grpo` from episodes; `sft` takes both, `kto` pairs."""
    max_policy_lag: int | None = Field(default=None, ge=0)
    """Versions by which a batch may be older than the model; older ones are cancelled as `stale`."""
    max_queued: int | None = Field(default=None, ge=1)
    """Waiting jobs of a run; more cancel the oldest."""
    reward: RewardFunctionConfig | None = None
    """Taken from `reward_function` of the run."""

    @property
    def objectives(self) -> frozenset[Objective]:
        """What this trainer optimises, as it is set."""
        return frozenset(Objective)

    @property
    def starts_from(self) -> str:
        """The base model's name in versions and model cards."""
        return self.type


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


class ARTTrainerAdapterConfig(TrainerSection):
    """GRPO by OpenPipe ART, in its training service or on this machine."""

    type: Literal["openpipe_art_trainer_adapter"] = Field(
        default="openpipe_art_trainer_adapter", alias="_type"
    )
    backend: ARTBackendConfig
    training: ARTTrainingConfig | None = None
    """By default ART's own settings."""

    @model_validator(mode="after")
    def _service_takes_what_is_set(self) -> Self:
        names = self.training.only_local if self.training and self.backend.kind == "serverless" else []
        if names:
            raise ValueError(
                f"training.{names[0]} is not known to ART's training service: leave it out, "
                "or set backend.kind: local"
            )
        return self

    @property
    @override
    def objectives(self) -> frozenset[Objective]:
        return frozenset({Objective.GRPO})

    @property
    @override
    def starts_from(self) -> str:
        return self.backend.base_model


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


class ForeignTrainerConfig(TrainerSection):
    """The section of a trainer that is not installed here, kept as another process wrote it."""

    model_config = ConfigDict(extra="allow")


_OURS: Final = ("trl", "openpipe_art_trainer_adapter", "nemo_customizer_trainer_adapter")
_OTHER: Final = "other"


def _kind(value: object) -> str | None:
    kind = kind_of(value, default="trl")
    return kind if kind is None or kind in _OURS else _OTHER


def _of_plugin(value: object, handler: object, info: ValidationInfo) -> TrainerSection:
    """Read the section of a trainer that another distribution brings.

    With ``{"foreign": True}`` as context one that is not installed here is kept as it is.
    """
    del handler
    if isinstance(value, TrainerSection):
        return value
    try:
        return trainer_section(str(kind_of(value, default="trl"))).model_validate(value)
    except NotInstalled as missing:
        if info.context and info.context.get("foreign"):
            return ForeignTrainerConfig.model_validate(value)
        known = ", ".join(map(repr, [*_OURS, *installed_trainers()]))
        raise ValueError(f"{missing}; choose one of {known}") from missing


def trainer_section(kind: str) -> type[TrainerSection]:
    """Return the section of a trainer that another distribution brings.

    Raises:
        NotInstalled: when there is none, or its description has no section.
    """
    section = getattr(load_trainer(kind), "config", None)
    if not (isinstance(section, type) and issubclass(section, TrainerSection)):
        raise NotInstalled(f"_type {kind!r} names something without a TrainerSection as its config")
    return section


Trainer = Annotated[
    Annotated[TRLTrainerConfig, Tag(_OURS[0])]
    | Annotated[ARTTrainerAdapterConfig, Tag(_OURS[1])]
    | Annotated[NeMoCustomizerTrainerAdapterConfig, Tag(_OURS[2])]
    | Annotated[
        SerializeAsAny[TrainerSection],
        WrapValidator(_of_plugin),
        WithJsonSchema(
            {
                "type": "object",
                "description": "Training by a backend that another distribution brings.",
                "properties": {"_type": {"type": "string", "not": {"enum": list(_OURS)}}},
                "required": ["_type"],
            }
        ),
        Tag(_OTHER),
    ],
    Discriminator(_kind),
]
