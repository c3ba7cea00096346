"""How ``accelerate`` starts the processes of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tunestream.trainers.port import TrainingFailed

__all__ = ["launcher_arguments"]

_SETTING: Final = "TUNESTREAM_WORKER_ACCELERATE_CONFIG"
# What keeps a whole model in each process. Sharded ones are saved otherwise.
_KINDS: Final = ("NO", "MULTI_CPU", "MULTI_GPU")


def launcher_arguments(file: Path) -> list[str]:
    """Return what stands between the interpreter and the name of the module that it runs.

    Args:
        file: as ``accelerate config`` writes it.

    Raises:
        TrainingFailed: when it cannot be read or asks for what the worker cannot do.
    """
    config = _read(file)
    kind, processes = str(config.get("distributed_type", "NO")), config.get("num_processes", 1)
    if kind not in _KINDS:
        raise _unusable(file, f"distributed_type {kind} is none of {', '.join(_KINDS)}")
    if config.get("num_machines", 1) != 1:
        raise _unusable(file, "num_machines must be 1: a worker is on one machine")
    if not isinstance(processes, int) or processes < 1:
        raise _unusable(file, "num_processes must be a number of 1 or more")
    arguments = ["-m", "accelerate.commands.launch", "--config_file", str(file)]
    if kind == "MULTI_CPU" and processes > 1:
        arguments.append("--multi_gpu")  # else accelerate starts them by mpirun alone
    if config.get("main_process_port") is None:
        arguments += ["--main_process_port", "0"]  # a free one: there may be other workers on the machine
    return [*arguments, "--module"]


def _read(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unusable(file, f"it cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise _unusable(file, "it is no mapping of settings")
    return config


def _unusable(file: Path, problem: str) -> TrainingFailed:
    return TrainingFailed(
        "bad_accelerate_config", f"{_SETTING} {file}: {problem}; `accelerate config --config_file` writes one"
    )
