"""TRL's arguments for a run's configuration on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.kto_config import KTOConfig
from trl.trainer.sft_config import SFTConfig

from tunestream.config.run.training import TrainingConfig
from tunestream.events.training import Objective
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.trl.grpo import EpisodeArguments

__all__ = ["make_arguments"]

# The reference's log-probabilities are computed once before the first step: that is the same reference
# as TRL's copy of the model, in less memory and, from two epochs on, less time.
_REFERENCE: Final = {"precompute_ref_log_probs": True}
_KINDS: Final[Mapping[Objective, tuple[type[TrainingArguments], dict[str, Any]]]] = MappingProxyType(
    {
        Objective.DPO: (DPOConfig, _REFERENCE),
        Objective.KTO: (KTOConfig, _REFERENCE),
        Objective.SFT: (SFTConfig, {"dataset_kwargs": {"skip_prepare_dataset": True}}),
        Objective.GRPO: (EpisodeArguments, {"remove_unused_columns": False}),
    }
)


def make_arguments(
    objective: Objective, config: TrainingConfig, output: Path, limit: int | None
) -> tuple[TrainingArguments, list[str]]:
    """Return the arguments, and notes on what this machine cannot do and was changed.

    Args:
        objective: what is optimised.
        config: the run's settings.
        output: folder of checkpoints.
        limit: tokens of a sequence; None for no limit.

    Raises:
        TrainingFailed: when a setting means nothing to transformers or needs what is not installed.
    """
    cuda = torch.cuda.is_available()
    kind, extra = _KINDS[objective]
    values = config.keywords(objective) | extra | {"max_length": limit}
    _check_optimiser(values["optim"])
    notes = _fit_cuda(values) if cuda else _fit_cpu(values)
    try:
        return kind(**values, **_fixed(output, cuda=cuda)), notes
    except (ValueError, ImportError) as error:
        message = f"they cannot be used: {error}"
        raise TrainingFailed("bad_arguments", message, key="training.training_args") from error


def _fixed(output: Path, *, cuda: bool) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
        "eval_strategy": "no",
        "save_strategy": "steps",
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
    }


def _check_optimiser(name: str) -> None:
    known = [one.value for one in OptimizerNames]
    if name not in known:
        message = f"{name!r} is none of {', '.join(known)}"
        raise TrainingFailed("bad_arguments", message, key="training.training_args.optim")


def _fit_cpu(values: dict[str, Any]) -> list[str]:
    notes = [_switch_off(values, name, "needs a GPU") for name in ("fp16", "tf32") if values[name]]
    if str(values["optim"]).startswith("paged_"):
        notes.append(f"optim {values['optim']} needs a GPU: adamw_torch was used")
        values["optim"] = "adamw_torch"
    values["gradient_checkpointing"] = False  # a CPU has the memory; recomputing takes twice the time
    return notes


def _fit_cuda(values: dict[str, Any]) -> list[str]:
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return []
    reason = f"is not supported by {torch.cuda.get_device_name()}"
    return [_switch_off(values, name, reason) for name in ("bf16", "tf32") if values[name]]


def _switch_off(values: dict[str, Any], name: str, reason: str) -> str:
    values[name] = False
    return f"{name} {reason} and was off"
