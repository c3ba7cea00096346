"""The trainer section of OpenPipe ART: where it trains and what it is set to, under ART's own names."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from tunestream.config.run.section import EnvName, FreeForm, Section
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.training import Objective

__all__ = ["ARTBackendConfig", "ARTTrainerAdapterConfig", "ARTTrainingConfig"]


class ARTBackendConfig(Section):
    """Which of ART's backends trains, where it is, and which model it trains."""

    kind: Literal["serverless", "local"] = "serverless"
    """A training service, or this machine."""
    base_url: str | None = None
    """The training service's address, with its `/v1`; by default `http://{ip}:{port}/v1`."""
    ip: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    api_key_env: EnvName | None = None
    """Environment variable with the service's key; without one the service is sent `default`."""
    entity: str | None = Field(default=None, min_length=1)
    """Who owns the model in the service; by default the owner of the key."""
    project: str = Field(default="trainer_project", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """The model's name in ART; by default the run's id."""
    base_model: str = "Qwen/Qwen2.5-7B-Instruct"
    pull_checkpoints: bool = True
    """Copy each checkpoint from the service into the artifact store; else a version only names it."""
    delete_old_checkpoints: bool = False
    """Delete all but the latest checkpoint in ART before each training."""
    path: str = ".art"
    """Local: the folder where ART keeps its models."""
    model_service: Literal["unsloth"] = "unsloth"
    """Local: who trains; `unsloth` needs a GPU and an environment of its own."""
    init_args: FreeForm | None = None
    """Local: how the model is loaded."""
    peft_args: FreeForm | None = None
    """Local: the adapter, as `r`, `lora_alpha`, `lora_dropout`, `target_modules`."""
    trainer_args: FreeForm | None = None
    """Local: ART's trainer arguments, as `per_device_train_batch_size`, `max_grad_norm`, `weight_decay`."""
    engine_args: FreeForm | None = None
    """Local: of the vLLM engine."""
    server_config: FreeForm | None = None
    """Local: of the inference server."""

    @property
    def url(self) -> str:
        """The training service's address."""
        return self.base_url or f"http://{self.ip}:{self.port}/v1"

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write an address such as https://api.training.wandb.ai/v1")
        if value is not None and "@" in value:
            raise ValueError("holds a user or password; name an environment variable in api_key_env instead")
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _service_has_an_address(self) -> Self:
        if self.kind == "serverless" and self.base_url is None and (self.ip is None or self.port is None):
            raise ValueError("set base_url, or ip and port, of the training service; or kind: local")
        return self


class ARTTrainingConfig(Section):
    """How ART trains."""

    learning_rate: float = Field(default=5e-6, gt=0.0)
    beta: float = Field(default=0.0, ge=0.0)
    """Local: weight of the divergence from the base model (ART's `kl_penalty_coef`)."""
    loss_fn: Literal["cispo", "ppo"] = "cispo"
    epsilon: float | None = Field(default=None, gt=0.0)
    """Ratios are clipped below `1 - epsilon`; by default 1.0 with cispo, 0.2 with ppo."""
    epsilon_high: float | None = Field(default=None, gt=0.0)
    """Ratios are clipped above `1 + epsilon_high`; by default 4.0 with cispo, `epsilon` with ppo."""
    advantage_balance: float = Field(default=0.0, ge=-1.0, le=1.0)
    """-1 trains on what went badly alone, 1 on what went well."""
    scale_rewards: bool = True
    """Divide advantages by the standard deviation of their group."""
    importance_sampling_level: Literal["token", "sequence", "average", "geometric_average"] = "token"
    max_negative_advantage_importance_sampling_weight: float | None = Field(default=None, gt=0.0)
    mask_prob_ratio: bool = False
    """Leave out tokens whose ratio would be clipped."""
    kimi_k2_tau: float | None = Field(default=None, ge=0.0)
    precalculate_logprobs: bool = False
    truncated_importance_sampling: float | None = Field(default=None, gt=0.0)
    """Local."""
    packed_sequence_length: int | None = Field(default=None, ge=1)
    """Local: tokens of a sequence; by default the longest episode's, rounded up to 2048."""
    logprob_calculation_chunk_size: int | None = Field(default=None, ge=1)
    """Local: by default `packed_sequence_length`, or 1024."""

    @property
    def only_local(self) -> list[str]:
        """What is set that a training service does not take."""
        names = ("beta", "truncated_importance_sampling", "packed_sequence_length")
        return [name for name in (*names, "logprob_calculation_chunk_size") if getattr(self, name)]


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
