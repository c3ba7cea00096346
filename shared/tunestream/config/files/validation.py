"""From values with lines to a model, or to problems that a user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import ConfigError, Problem
from tunestream.config.files.keys import suggestion

__all__ = ["validated", "without_unknown_keys"]

Model = TypeVar("Model", bound=BaseModel)

_MISSING: Final[dict[Keys, str]] = {
    ("run_id",): "is required: a name for the run",
    ("data",): "is required: set at least path, prompt and prompt_stub in it",
    ("model",): "is required: set at least 'hf_model_ckpt: …' in it",
    ("model", "hf_model_ckpt"): "is required: a folder, or a name on the Hugging Face hub",
    ("trainer",): "is required: set at least 'model: {hf_model_ckpt: …}' in it",
    ("trainer", "model"): "is required: set at least 'hf_model_ckpt: …' in it",
    ("trainer", "model", "hf_model_ckpt"): "is required: a folder, or a name on the Hugging Face hub",
}


def validated(model: type[Model], document: Document) -> Model:
    """Return the document as a ``model``.

    Raises:
        ConfigError: with every problem that was found.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(_problems(model, document, error)) from error


def without_unknown_keys(model: type[BaseModel], document: Document) -> list[Problem]:
    """Remove the keys that ``model`` does not know, and return a note for each."""
    try:
        model.model_validate(document.data)
    except ValidationError as error:
        unknown = [_path(document, item) for item in error.errors() if item["type"] == "extra_forbidden"]
    else:
        return []
    notes = [document.problem(path, "means nothing here and is ignored") for path in unknown]
    for path in unknown:
        document.drop(path)
    return notes


def _problems(model: type[BaseModel], document: Document, error: ValidationError) -> Iterator[Problem]:
    found: dict[Keys, list[str]] = {}
    for item in error.errors(include_input=False, include_url=False):
        path = _path(document, item)
        message = _message(model, document, path, item)
        if message not in found.setdefault(path, []):
            found[path].append(message)
    for path, messages in found.items():
        yield document.problem(path, ", or ".join(messages))


def _path(document: Document, item: ErrorDetails) -> Keys:
    """Return where an error is, without the names of union members that pydantic puts in between."""
    path: Keys = ()
    here: Any = document.data
    last = len(item["loc"]) - 1
    for depth, key in enumerate(item["loc"]):
        inside = key in here if isinstance(here, dict) else isinstance(here, list) and isinstance(key, int)
        if inside:
            path, here = (*path, key), here[key]
        elif depth == last and item["type"] == "missing":
            path = (*path, key)
    return path


def _message(model: type[BaseModel], document: Document, path: Keys, item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key; {suggestion(model, document, path)}"
        case "missing":
            return _MISSING.get(path, "is required")
        case "union_tag_invalid":
            return f"_type {context['tag']!r} is unknown; choose one of {context['expected_tags']}"
        case "union_tag_not_found" | "model_type" | "model_attributes_type" | "dict_type":
            return "must be a section: keys and values"
        case _:
            return item["msg"].removeprefix("Value error, ").replace("Input should", "should")
