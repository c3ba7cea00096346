"""The toolkit's settings that do nothing here: read, checked and taken out before a run is validated.

No field of our configuration holds them. A run's record and its digest keep them, as every release wrote
them: an upgrade makes no new configuration of a file that did not change.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import Problem
from tunestream.config.nat.finetune import FinetuneRunConfig
from tunestream.config.run.reward import RewardFunctionConfig

__all__ = ["INERT", "Inert", "InertValues", "take_inert", "with_inert", "without_inert"]

InertValues = Mapping[Keys, Any]
"""Path of a setting that does nothing → its value as JSON, of those that are not at their defaults."""

_AGENTS_PUBLISH: Final = "agents publish their events; the workflow is not run from here"
_USE_REWARD_FUNCTION: Final = "use reward_function"


class Inert(NamedTuple):
    """A setting that does nothing.

    Attributes:
        kind: the toolkit's type of it, by which a digest does not depend on how it is written.
        default: the toolkit's; it may stand in a file.
        remedy: why it does nothing, and what does.
    """

    kind: Any
    default: Any
    remedy: str


INERT: Final[dict[Keys, Inert]] = {
    ("enabled",): Inert(bool, True, "a run is on from `tunestream run apply` on"),
    ("target_functions",): Inert(list[str], ["<workflow>"], _AGENTS_PUBLISH),
    ("num_epochs",): Inert(
        int, 1, "a run has no end; passes over a batch are training_args.num_train_epochs"
    ),
    ("output_dir",): Inert(
        Path, ".tmp/nat/finetuning", "the services' settings name the folder of artifacts"
    ),
    ("run_configuration",): Inert(FinetuneRunConfig, None, _AGENTS_PUBLISH),
    ("trajectory_builder", "reward"): Inert(RewardFunctionConfig, None, _USE_REWARD_FUNCTION),
    ("trainer", "reward"): Inert(RewardFunctionConfig, None, _USE_REWARD_FUNCTION),
}
"""Path of the setting → its default and its remedy."""


def take_inert(document: Document) -> tuple[InertValues, list[Problem]]:
    """Take the settings that do nothing out of a run's file.

    Returns:
        Those that are not at their defaults, and a problem for each.
    """
    values: dict[Keys, Any] = {}
    problems = []
    for path, one in INERT.items():
        section = document.at(path[:-1])
        if not isinstance(section, dict) or path[-1] not in section:
            continue
        value = section[path[-1]]
        read = None if value is None else _as_json(one, value)
        if value is not None and (read is None or read != one.default):
            problems.append(document.problem(path, f"is not supported yet: {one.remedy}"))
        if read is not None and read != one.default:
            values[path] = read
        document.drop(path)
    return values, problems


def with_inert(values: dict[str, Any], inert: InertValues) -> dict[str, Any]:
    """Return a run's document with all settings that do nothing, by default at their defaults."""
    values = copy.deepcopy(values)
    for path, one in INERT.items():
        _section(values, path)[path[-1]] = inert.get(path, one.default)
    return values


def without_inert(values: dict[str, Any]) -> tuple[dict[str, Any], InertValues]:
    """Return a run's document without the settings that do nothing, and those not at their defaults."""
    values, inert = copy.deepcopy(values), {}
    for path, one in INERT.items():
        section = _section(values, path)
        if isinstance(section, dict) and path[-1] in section:
            value = section.pop(path[-1])
            if value != one.default:
                inert[path] = value
    return values, inert


def _section(values: Any, path: Keys) -> Any:
    for key in path[:-1]:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _as_json(one: Inert, value: object) -> Any:
    """Return a value as the toolkit reads it, None for what it would refuse."""
    adapter = TypeAdapter[Any](one.kind)
    try:
        return adapter.dump_python(adapter.validate_python(value, extra="ignore"), mode="json")
    except ValidationError:
        return None
