"""What this machine can do with a model's weights, and what is done instead where it cannot."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import torch
import transformers

from tunestream.config.run.model import ModelConfig
from tunestream.trainers.port import TrainingFailed

__all__ = ["loading_options"]

_PACKAGES: Final = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def loading_options(config: ModelConfig) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of ``from_pretrained``, and notes on what was changed for this machine.

    Raises:
        TrainingFailed: when quantised weights are asked for and bitsandbytes is not installed.
    """
    notes: list[str] = []
    cuda = torch.cuda.is_available()
    options: dict[str, Any] = {
        "dtype": _dtype(config.torch_dtype, notes, cuda=cuda),
        "attn_implementation": _attention(config.attn_implementation, notes, cuda=cuda),
    }
    if cuda:
        options["device_map"] = config.device_map
    if config.quantization is not None:
        options["quantization_config"] = _quantization(config, notes, cuda=cuda)
    return options, notes


def _dtype(wanted: str, notes: list[str], *, cuda: bool) -> str:
    if not cuda and wanted == "float16":
        notes.append("torch_dtype float16 needs a GPU: float32 was used")
        return "float32"
    if cuda and wanted == "bfloat16" and not _has_bf16():
        notes.append(
            f"torch_dtype bfloat16 is not supported by {torch.cuda.get_device_name()}: float32 was used"
        )
        return "float32"
    return wanted


def _attention(wanted: str | None, notes: list[str], *, cuda: bool) -> str | None:
    package = _PACKAGES.get(wanted or "")
    if package is None:
        return wanted
    if cuda and find_spec(package) is not None:
        return wanted
    lacks = f"the package {package}" if cuda else "a GPU"
    notes.append(f"attn_implementation {wanted} needs {lacks}: sdpa was used")
    return "sdpa"


def _quantization(config: ModelConfig, notes: list[str], *, cuda: bool) -> Any:
    if find_spec("bitsandbytes") is None:
        raise TrainingFailed(
            "missing_dependency", "model.quantize needs bitsandbytes: pip install 'tunestream[trl]'"
        )
    assert config.quantization is not None
    values = config.quantization.model_dump()
    if cuda and values["load_in_4bit"] and values["bnb_4bit_compute_dtype"] == "bfloat16" and not _has_bf16():
        notes.append("bnb_4bit_compute_dtype bfloat16 is not supported by this GPU: float16 was used")
        values["bnb_4bit_compute_dtype"] = "float16"
    return transformers.BitsAndBytesConfig(**values)  # type: ignore[no-untyped-call]


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
