"""The packages of the backends, each of which needs an extra: imported when somebody uses them."""

from __future__ import annotations

import importlib
from typing import Any

from tunestream.trainers.port import TrainingFailed

__all__ = ["package_of"]


def package_of(extra: str) -> Any:
    """Import ``tunestream.trainers.<extra>``.

    Raises:
        TrainingFailed: when what it needs is not installed.
    """
    try:
        return importlib.import_module(f"tunestream.trainers.{extra}")
    except ModuleNotFoundError as error:
        raise TrainingFailed(
            "missing_dependency",
            f"the {extra} trainer needs {error.name}: pip install 'tunestream[{extra}]'",
        ) from error
