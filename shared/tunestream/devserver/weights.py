"""The weights that are served: one base model, with adapters and full versions beside it."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from tunestream.devserver.bodies import ApiError, ModelCard

__all__ = ["ServedWeights"]


class ServedWeights:
    """The base model and every version loaded beside it, by their names in requests.

    They are on the first CUDA device, or on the CPU where there is none.

    Args:
        folder: the base model.
        name: what the base model is called in requests.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._root = folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.base = self._weights_of(folder)
        self._numbers = count(1)
        self._adapters: dict[str, str] = {}  # name -> PEFT's name, which may not hold a dot
        self._full: dict[str, Any] = {}
        self._paths: dict[str, str] = {}

    def cards(self) -> list[ModelCard]:
        """Describe what is served, the base model first."""
        base = ModelCard(id=self._name, root=str(self._root))
        loaded = (ModelCard(id=name, root=path, parent=self._name) for name, path in self._paths.items())
        return [base, *loaded]

    def serves(self, name: str) -> bool:
        """Return whether ``name`` is the base model or a loaded version."""
        return name == self._name or name in self._paths

    def load(self, name: str, path: str, *, in_place: bool) -> None:
        """Load a version: a PEFT adapter, or a folder of full weights.

        Raises:
            ApiError: the name is taken, or the folder holds no weights that fit the base model.
        """
        self._check_name(name, in_place=in_place)
        folder = Path(path)
        try:
            adapter, full = self._read(folder)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ApiError(
                400, f"{path} does not fit {self._name}: {error}", kind="BadRequestError"
            ) from error
        if name in self._paths:
            self.unload(name)
        if adapter is not None:
            self._adapters[name] = adapter
        else:
            self._full[name] = full
        self._paths[name] = path

    def unload(self, name: str) -> None:
        """Forget a version.

        Raises:
            ApiError: it is not loaded.
        """
        if name not in self._paths:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.", kind="NotFoundError")
        del self._paths[name]
        if name in self._adapters:
            self.base.delete_adapter(self._adapters.pop(name))
        else:
            del self._full[name]

    def _check_name(self, name: str, *, in_place: bool) -> None:
        if name == self._name:
            text = f"The lora adapter name '{name}' is the name of the base model."
            raise ApiError(400, text, kind="InvalidUserInput")
        if name in self._paths and not in_place:
            text = (
                f"The lora adapter '{name}' has already been loaded. "
                "If you want to load the adapter in place, set 'load_inplace' to True."
            )
            raise ApiError(400, text, kind="InvalidUserInput")

    def _read(self, folder: Path) -> tuple[str | None, Any]:
        if (folder / "adapter_config.json").is_file():
            return self._read_adapter(folder), None
        if (folder / "config.json").is_file():
            return None, self._weights_of(folder)
        raise ApiError(404, f"No adapter found for {folder}", kind="NotFoundError")

    def _read_adapter(self, folder: Path) -> str:
        handle = f"version{next(self._numbers)}"
        loaded = False
        try:
            self.base.load_adapter(folder, adapter_name=handle)
            loaded = True
        finally:
            if not loaded and handle in getattr(self.base, "peft_config", {}):
                self.base.delete_adapter(handle)
        return handle

    def _weights_of(self, folder: Path) -> Any:
        weights: Any = AutoModelForCausalLM.from_pretrained(folder)
        return weights.to(self.device).eval()

    def activate(self, name: str) -> Any:
        """Return the module that answers under a name, with that version's adapter or none."""
        if name in self._full:
            return self._full[name]
        if name in self._adapters:
            self.base.enable_adapters()
            self.base.set_adapter(self._adapters[name])
        elif self.base._hf_peft_config_loaded:  # noqa: SLF001 - there is no public way to ask
            self.base.disable_adapters()
        return self.base.eval()
