"""Which settings exist but are not acted upon by this version."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from tunestream.config.files.document import Document, Keys
from tunestream.config.files.errors import Problem
from tunestream.config.run.run import RunConfig
from tunestream.events.training import Objective

__all__ = ["NOT_YET", "unsupported"]

_HERE_AGENTS_PUBLISH: Final = "agents publish their events; the workflow is not run from here"
_INFERENCE: Final = ("trainer", "inference")
NOT_YET: Final[dict[Keys, str]] = {
    ("enabled",): "a run is on from `tunestream run apply` on",
    ("target_functions",): _HERE_AGENTS_PUBLISH,
    ("num_epochs",): "a run has no end; passes over a batch are training_args.num_train_epochs",
    ("output_dir",): "artifacts lie where the services' settings say",
    ("run_configuration",): _HERE_AGENTS_PUBLISH,
    ("trajectory_builder", "reward"): "use reward_function",
    ("trainer", "reward"): "use reward_function",
    _INFERENCE: "generation is the serving side's",
}
"""Path of a setting or a section → why it does nothing, and what does."""

_WITH_ARGUMENTS: Final = "trl"  # the trainer whose section has settings for each objective


@cache
def _defaults() -> dict[str, Any]:
    trainer = {"_type": _WITH_ARGUMENTS, "model": {"hf_model_ckpt": "defaults"}}
    return RunConfig.model_validate({"run_id": "defaults", "trainer": trainer}).document()


def unsupported(config: RunConfig, document: Document) -> Iterator[Problem]:
    """Yield a problem for each setting away from its default that this version does not act upon."""
    values, defaults = config.document(), _defaults()
    is_trl = config.trainer.type == _WITH_ARGUMENTS
    for path, remedy in NOT_YET.items():
        if is_trl or path != _INFERENCE:  # sections of others say what they like by it
            for changed in _changed(_value(values, path), _value(defaults, path), path):
                yield document.problem(changed, f"is not supported yet: {remedy}")
    for objective in Objective if is_trl else ():
        if objective is not config.objective:
            path = ("trainer", "training", f"{objective}_args")
            for changed in _changed(_value(values, path), _value(defaults, path), path):
                yield document.problem(changed, f"does nothing: the run's objective is {config.objective}")


def _value(values: Any, path: Keys) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _changed(value: Any, default: Any, path: Keys) -> Iterator[Keys]:
    if isinstance(value, dict) and isinstance(default, dict):
        for key, inner in value.items():
            yield from _changed(inner, default.get(key), (*path, key))
    elif value is not None and value != default:
        yield path
