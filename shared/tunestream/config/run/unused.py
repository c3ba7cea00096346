"""Settings of a trainer's section that do nothing in a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import Problem
from tunestream.config.run.run import RunConfig

__all__ = ["unused_problems"]


def unused_problems(config: RunConfig, document: Document) -> Iterator[Problem]:
    """Yield a problem for each setting that the run's trainer does not act upon, unless it is at its default.

    Args:
        config: the run.
        document: its file, for the places in messages.
    """
    for path, reason in config.trainer.without_effect(config.objective).items():
        section: Any = config.trainer
        for key in path:
            section = getattr(section, str(key))
        defaults = type(section)().model_dump(mode="json")
        for changed in _changed(section.model_dump(mode="json"), defaults, ("trainer", *path)):
            yield document.problem(changed, reason)


def _changed(value: Any, default: Any, path: Keys) -> Iterator[Keys]:
    if isinstance(value, dict) and isinstance(default, dict):
        for key, inner in value.items():
            yield from _changed(inner, default.get(key), (*path, key))
    elif value is not None and value != default:
        yield path
