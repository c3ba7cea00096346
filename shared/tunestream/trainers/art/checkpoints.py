"""What a checkpoint of ART must hold, and what of it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

__all__ = ["check_adapter", "keep_weights"]

_KEPT: Final = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".md"})


def check_adapter(folder: Path) -> None:
    """Look whether a folder holds a whole adapter.

    Raises:
        ValueError: when it does not.
    """
    try:
        json.loads((folder / "adapter_config.json").read_bytes())
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as weights:
            names = list(weights.keys())
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the checkpoint is no whole adapter: {error}") from error
    if not names:
        raise ValueError("the checkpoint's adapter has no weights")
    keep_weights(folder)


def keep_weights(folder: Path) -> None:
    """Delete what is neither weights nor text: pickles, above all."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in _KEPT:
            path.unlink()
