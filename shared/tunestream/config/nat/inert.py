"""The toolkit's settings that do nothing here: read, checked and taken out before a run is validated.

They are no fields of ours. A run's record and its digest keep them at their defaults, as every release wrote
them: an upgrade makes no new configuration of a file that did not change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import Problem

__all__ = ["INERT", "Inert", "inert_problems", "with_inert", "without_inert"]

_AGENTS_PUBLISH: Final = "agents publish their events; the workflow is not run from here"
_USE_REWARD_FUNCTION: Final = "use reward_function"


class Inert(NamedTuple):
    """A setting that does nothing.

    Attributes:
        default: the toolkit's; it may stand in a file.
        remedy: why it does nothing, and what does.
    """

    default: Any
    remedy: str


INERT: Final[dict[Keys, Inert]] = {
    ("enabled",): Inert(True, "a run is on from `tunestream run apply` on"),
    ("target_functions",): Inert(["<workflow>"], _AGENTS_PUBLISH),
    ("num_epochs",): Inert(1, "a run has no end; passes over a batch are training_args.num_train_epochs"),
    ("output_dir",): Inert(".tmp/nat/finetuning", "artifacts lie where the services' settings say"),
    ("run_configuration",): Inert(None, _AGENTS_PUBLISH),
    ("trajectory_builder", "reward"): Inert(None, _USE_REWARD_FUNCTION),
    ("trainer", "reward"): Inert(None, _USE_REWARD_FUNCTION),
}
"""Path of the setting → its default and its remedy."""


def inert_problems(document: Document) -> Iterator[Problem]:
    """Take the settings that do nothing out of a run's file.

    Yields:
        A problem for each that is not at its default.
    """
    for path, (default, remedy) in INERT.items():
        section = document.at(path[:-1])
        if not isinstance(section, dict) or path[-1] not in section:
            continue
        value = section[path[-1]]
        if value is not None and _plain(value) != default:
            yield document.problem(path, f"is not supported yet: {remedy}")
        document.drop(path)


def with_inert(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's document with the settings that do nothing at their defaults."""
    values = copy.deepcopy(values)
    for path, (default, _) in INERT.items():
        _section(values, path)[path[-1]] = default
    return values


def without_inert(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's document without the settings that do nothing, whatever they were set to."""
    values = copy.deepcopy(values)
    for path in INERT:
        section = _section(values, path)
        if isinstance(section, dict):
            section.pop(path[-1], None)
    return values


def _section(values: Any, path: Keys) -> Any:
    for key in path[:-1]:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _plain(value: object) -> object:
    """Return a path without what means nothing in it, and other values as they are."""
    return value.removeprefix("./").removesuffix("/") if isinstance(value, str) else value
