"""Looks whether the files of base models are where a trainer would read them; none is loaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx

from tunestream.config.run.run import RunConfig
from tunestream.overview.facts import BaseModelFacts

__all__ = ["read_base_models"]

_HUB: Final = "https://huggingface.co"
_HTTP_SECONDS: Final = 5.0
_WEIGHTS: Final = "*.safetensors"
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


async def read_base_models(configs: Iterable[RunConfig], *, is_here: bool) -> list[BaseModelFacts]:
    """Return the base model of each run whose trainer section names one.

    Args:
        configs: of the runs.
        is_here: whether the trainer works on this machine.
    """
    named = [(config.run_id, name) for config in configs if (name := _name(config)) is not None]
    problems = {
        name: await asyncio.to_thread(_problem, name) for name in dict.fromkeys(name for _, name in named)
    }
    return [BaseModelFacts(run_id, name, problems[name], is_here) for run_id, name in named]


def _name(config: RunConfig) -> str | None:
    model = config.trainer.model_dump(mode="json").get("model")
    name = model.get("hf_model_ckpt") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def _problem(name: str) -> str | None:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _missing(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return f"there is no folder {name}"
    snapshots = (_cache() / f"models--{name.replace('/', '--')}" / "snapshots").glob("*")
    if any(_missing(snapshot) is None for snapshot in snapshots):
        return None
    return _of_hub(name)


def _missing(folder: Path) -> str | None:
    if not (folder / "config.json").is_file():
        return f"{folder} has no config.json"
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return f"{folder} has no tokenizer"
    if not any(folder.glob(_WEIGHTS)):
        return f"{folder} has no weights: {_WEIGHTS}"
    return None


def _cache() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _of_hub(name: str) -> str | None:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return f"{name} is not on this machine, and HF_HUB_OFFLINE is set"
    hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        url = f"{hub}/{name}/resolve/main/config.json"
        answer = httpx.head(url, headers=headers, timeout=_HTTP_SECONDS)
    except httpx.HTTPError as error:
        return f"{name} is not on this machine, and {hub} cannot be reached ({type(error).__name__})"
    if answer.status_code in {401, 403}:
        return f"{name} is not on this machine, and {hub} refuses it: no such model, or it needs HF_TOKEN"
    if answer.is_error:
        return f"{name} is not on this machine, and {hub} answers {answer.status_code}"
    return None
