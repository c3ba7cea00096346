"""Training arguments in the experiment toolkit's names, and what today's TRL calls them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from tunestream.config.run.section import Section
from tunestream.events.training import Objective

__all__ = [
    "TRL_NAMES",
    "DPOArgs",
    "DPOLoss",
    "GRPOArgs",
    "KTOArgs",
    "SftArgs",
    "TrainingArgs",
    "TrainingConfig",
]

DPOLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]

TRL_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"warmup_ratio": "warmup_steps", "max_seq_length": "max_length", "torch_dtype": "dtype"}
)
"""Our name → the name in TRL 1 and transformers 5, where the two differ.

``warmup_steps`` below 1 is a share of all steps there.
"""


class TrainingArgs(Section):
    """Optimisation of one job."""

    num_train_epochs: int = Field(default=1, ge=1)
    """Passes over one batch of the stream."""
    per_device_train_batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    gradient_checkpointing: bool = True
    """Less memory for more time; off on a CPU."""
    optim: str = "adamw_torch_fused"
    logging_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    bf16: bool = False
    tf32: bool = False
    fp16: bool = False
    max_grad_norm: float = Field(default=0.3, ge=0.0)
    warmup_ratio: float = Field(default=0.03, ge=0.0, lt=1.0)
    lr_scheduler_type: str = "constant"
    save_steps: int | float = Field(default=500, gt=0)
    """Steps between checkpoints; below 1 a share of all steps."""
    seed: int = Field(default=42, ge=0)

    @field_validator("save_steps")
    @classmethod
    def _whole_steps(cls, value: float) -> int | float:
        if value >= 1 and value != int(value):
            raise ValueError("must be a whole number of steps, or a share below 1")
        return int(value) if value >= 1 else value

    @model_validator(mode="after")
    def _one_precision(self) -> TrainingArgs:
        if self.bf16 and self.fp16:
            raise ValueError("bf16 and fp16 exclude each other; set one of them")
        return self


class SftArgs(Section):
    """Supervised fine-tuning on the best response to each prompt."""

    max_seq_length: int | None = Field(default=None, ge=2)
    """Tokens of prompt and response; null truncates nothing."""
    neftune_noise_alpha: float | None = Field(default=None, gt=0.0)
    """Strength of the noise added to embeddings."""


class DPOArgs(Section):
    """Direct preference optimisation, in TRL's names."""

    beta: float = Field(default=0.1, gt=0.0)
    """How strongly the policy is held to its reference."""
    loss_type: DPOLoss | list[DPOLoss] = "sigmoid"
    loss_weights: list[float] | None = None
    """One weight per loss type."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    max_length: int | None = Field(default=1024, ge=2)
    """Tokens of prompt and response; null truncates nothing."""
    precompute_ref_log_probs: bool = False

    @model_validator(mode="after")
    def _weights_fit(self) -> DPOArgs:
        losses = self.loss_type if isinstance(self.loss_type, list) else [self.loss_type]
        if not losses or (self.loss_weights is not None and len(self.loss_weights) != len(losses)):
            raise ValueError("loss_weights needs one weight for each loss in loss_type")
        if "exo_pair" in losses and self.label_smoothing == 0.0:
            raise ValueError("loss_type exo_pair needs label_smoothing above 0, e.g. 0.001")
        return self


class KTOArgs(Section):
    """Learning from single responses, desirable or not, in TRL's names."""

    beta: float = Field(default=0.1, gt=0.0)
    """How strongly the policy is held to its reference."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    desirable_weight: float = Field(default=1.0, ge=0.0)
    """Weight of chosen responses."""
    undesirable_weight: float = Field(default=1.0, ge=0.0)
    """Weight of rejected responses."""
    max_length: int | None = Field(default=1024, ge=2)
    """Tokens of prompt and response; null truncates nothing."""


class GRPOArgs(Section):
    """Group-relative policy optimisation on recorded episodes, in TRL's names."""

    epsilon: float = Field(default=0.2, gt=0.0, lt=1.0)
    """How far below 1 the ratio of new to recorded probability still counts."""
    epsilon_high: float = Field(default=0.28, gt=0.0)
    """How far above 1 it still counts."""
    scale_rewards: Literal["group", "none"] = "group"
    """Divide a group's centred rewards by their standard deviation, or leave them as they are."""
    max_length: int | None = Field(default=None, ge=2)
    """Tokens of an episode; null truncates nothing."""


class TrainingConfig(Section):
    """The arguments common to all objectives and those of each."""

    training_args: TrainingArgs = TrainingArgs()
    sft_args: SftArgs = SftArgs()
    dpo_args: DPOArgs = DPOArgs()
    kto_args: KTOArgs = KTOArgs()
    grpo_args: GRPOArgs = GRPOArgs()

    def keywords(self, objective: Objective) -> dict[str, Any]:
        """Return the arguments that this section sets, in the names of TRL and transformers."""
        own = getattr(self, f"{objective}_args").model_dump()
        values = self.training_args.model_dump() | own
        return {TRL_NAMES.get(name, name): value for name, value in values.items()}

    def length_limit(self, objective: Objective) -> tuple[str, int | None]:
        """Return the setting that limits an objective's sequences, and its value in tokens."""
        name = "max_seq_length" if objective is Objective.SFT else "max_length"
        return f"{objective}_args.{name}", getattr(getattr(self, f"{objective}_args"), name)
