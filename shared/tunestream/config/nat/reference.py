"""The NeMo Agent Toolkit's shape of a run: named maps of components, chosen by name in ``finetuning``."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import ConfigError, Problem

__all__ = ["has_reference_shape", "to_native"]

_MAPS: Final = {
    "trajectory_builder": "trajectory_builders",
    "trainer_adapter": "trainer_adapters",
    "trainer": "trainers",
}
_OURS: Final = ("run_id", "batching", "evaluation", "serving")
_NATIVE: Final = (*_OURS, "trajectory_builder", "curriculum_learning", "trainer", "target_model")
_SECRETS: Final[dict[Keys, Keys]] = {
    ("trainer", "hf_token"): ("trainer", "hf_token_env"),
    ("trainer", "backend", "api_key"): ("trainer", "backend", "api_key_env"),
}
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-)?\}|\$(\w+)")


def has_reference_shape(document: Document) -> bool:
    """Return whether a file is in the toolkit's own shape."""
    if "finetuning" in document.data:
        return True
    return any(key in document.data for key in _MAPS.values()) and not any(
        key in document.data for key in _NATIVE
    )


def to_native(source: Document, *, whole: bool) -> tuple[Document, list[Problem]]:
    """Rewrite the toolkit's shape in ours.

    Args:
        source: the file.
        whole: a run with its trainer is wanted; otherwise only the sections that work without one.

    Returns:
        The native document, and notes on what means nothing here.

    Raises:
        ConfigError: when a component is named that the file does not have, or a secret is written out.
    """
    native = Document(source.name)
    notes = [
        source.problem((key,), "means nothing here and is ignored")
        for key in source.data
        if key not in {"finetuning", *_MAPS.values(), *_OURS}
    ]
    for key in _OURS:
        if key in source.data:
            source.copy((key,), native, (key,))
    for key in source.at(("finetuning",)) or {}:
        if key not in _MAPS:
            source.copy(("finetuning", key), native, (key,))
    _copy_component(source, native, "trajectory_builder", "trajectory_builder")
    if whole:
        _copy_component(source, native, "trainer_adapter", "trainer")
        _copy_component(source, native, "trainer", "trainer")
        _name_secrets(native)
    return native, notes


def _copy_component(source: Document, native: Document, kind: str, to: str) -> None:
    name = _chosen(source, kind)
    if name is None:
        return
    section = source.at((_MAPS[kind], name))
    if to not in native.data or not isinstance(section, dict):
        source.copy((_MAPS[kind], name), native, (to,))
        native.data[to] = dict(section) if isinstance(section, dict) else section
        return
    for key in section:
        if key not in {"_type", "type"}:  # the adapter's kind selects the trainer
            source.copy((_MAPS[kind], name, key), native, (to, key))


def _chosen(source: Document, kind: str) -> str | None:
    path, components = ("finetuning", kind), source.at((_MAPS[kind],)) or {}
    name = source.at(path)
    if name in components:
        return str(name)
    if name is None and len(components) <= 1 and (components or kind != "trainer_adapter"):
        return next(iter(components), None)
    raise ConfigError([source.problem(path, _wrong_choice(name, _MAPS[kind], list(components)))])


def _wrong_choice(name: object, where: str, components: list[str]) -> str:
    if name is None:
        return f"is required: name one of {where} ({', '.join(components) or 'which is empty'})"
    near = get_close_matches(str(name), components, n=1, cutoff=0.0)
    return f"{name!r} is not in {where}" + (f"; did you mean {near[0]!r}?" if near else "")


def _name_secrets(native: Document) -> None:
    for path, named in _SECRETS.items():
        value = native.at(path)
        if value is None:
            continue
        variable = _VARIABLE.fullmatch(str(value))
        if variable:
            native.copy(path, native, named)
            native.at(named[:-1])[named[-1]] = variable[1] or variable[2]
        elif value not in {"", "default"}:
            message = "holds a secret; write ${NAME} of an environment variable instead"
            raise ConfigError([native.problem(path, message)])
        native.drop(path)
