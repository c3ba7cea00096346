"""Loading the policy that a job starts from, and saving the one that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError

from tunestream.config.run.model import ModelConfig
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.trl.config import TRLTrainerConfig
from tunestream.trainers.trl.hardware import loading_options

__all__ = [
    "context_length",
    "has_finite_weights",
    "load_policy",
    "load_tokenizer",
    "load_weights",
    "save_policy",
]


def load_tokenizer(config: ModelConfig) -> Any:
    """Load the base model's tokenizer.

    Raises:
        TrainingFailed: when there is no such model.
    """
    _check_path(config.hf_model_ckpt)
    try:
        return transformers.AutoTokenizer.from_pretrained(config.hf_model_ckpt)
    except (OSError, ValueError) as error:
        raise _unusable(config.hf_model_ckpt, error) from error


def load_policy(config: TRLTrainerConfig, parent: Path | None) -> tuple[Any, list[str]]:
    """Load the weights that training starts from.

    With LoRA the parent is an adapter that is trained further, or a fresh one; without it the parent
    is a full model that stands in for the base.

    Args:
        config: of the run.
        parent: the folder of the run's current version; None for the base model.

    Returns:
        The model, and notes on what this machine cannot do and was changed.

    Raises:
        TrainingFailed: when the model or the parent cannot be used.
    """
    if config.lora is None:
        if parent is not None:
            _check_kind(parent, "config.json", "all weights (lora: null)")
        return load_weights(config.model, str(parent or config.model.hf_model_ckpt))
    base, notes = load_weights(config.model, config.model.hf_model_ckpt)
    wanted = LoraConfig(**config.lora.model_dump())
    if parent is None:
        return get_peft_model(base, wanted), notes
    _check_kind(parent, "adapter_config.json", "a LoRA adapter")
    return _continue_adapter(base, parent, wanted), notes


def load_weights(config: ModelConfig, path: str) -> tuple[Any, list[str]]:
    """Load a causal language model, quantised when ``config`` asks for it.

    Args:
        config: how to load.
        path: a folder, or a name on the Hugging Face hub.

    Returns:
        The model, and notes on what this machine cannot do and was changed.

    Raises:
        TrainingFailed: when there is no such model.
    """
    options, notes = loading_options(config)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(path, error) from error
    return model, notes


def save_policy(model: Any, tokenizer: Any, folder: Path, base_model: str) -> None:
    """Write an adapter, or all weights with the tokenizer: safetensors and JSON, nothing else."""
    if isinstance(model, PeftModel):
        # The path from which this machine loaded the base means nothing elsewhere.
        model.peft_config["default"].base_model_name_or_path = base_model
        model.save_pretrained(str(folder), selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def has_finite_weights(model: Any) -> bool:
    """Return whether no trained weight is NaN or infinite."""
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return all(bool(torch.isfinite(weight).all()) for weight in trained)


def context_length(model: Any) -> int | None:
    """Return how many tokens the model can see; None when its configuration has no limit."""
    text = model.config.get_text_config()
    return getattr(text, "max_position_embeddings", None)


def _continue_adapter(base: Any, parent: Path, wanted: LoraConfig) -> Any:
    model = PeftModel.from_pretrained(base, str(parent), is_trainable=True)
    found = model.peft_config["default"]
    for name in ("r", "lora_alpha"):
        before, now = getattr(found, name), getattr(wanted, name)
        if before != now:
            raise TrainingFailed(
                "parent_mismatch",
                f"the run's current version is an adapter with lora.{name} {before}, the configuration has "
                f"{now}: set lora.{name} to {before}, or start a new run for the new shape",
            )
    return model


def _check_kind(parent: Path, marker: str, what: str) -> None:
    if not (parent / marker).exists():
        raise TrainingFailed(
            "parent_mismatch",
            f"the configuration trains {what}, but the run's current version is of the other kind: "
            "set it as it was, or start a new run",
            key="lora",
        )


def _check_path(path: str) -> None:
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local and not Path(path).is_dir():
        raise TrainingFailed(
            "model_missing",
            f"there is no folder {path!r} on the trainer's machine; "
            "write the path of a model's folder there, or a name on the Hugging Face hub",
            key="model.hf_model_ckpt",
        )


def _unusable(path: str, error: Exception) -> TrainingFailed:
    if Path(path).is_dir():
        return TrainingFailed(
            "model_unusable",
            f"the folder {path!r} holds no causal language model with safetensors weights and a tokenizer: "
            f"{error}",
            key="model.hf_model_ckpt",
        )
    return TrainingFailed(
        "model_missing",
        f"{path!r} is neither a folder on the trainer's machine nor a model that it can get from the "
        f"Hugging Face hub: {error}",
        key="model.hf_model_ckpt",
    )
