"""Metrics of other packages."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Final

from tunestream.experiments.stages import StageFailed

__all__ = ["METRICS_GROUP", "load_metric", "nearest", "plugin_names"]

METRICS_GROUP: Final = "tunestream.qa_metrics"


def plugin_names() -> list[str]:
    """Return the names of the metrics that installed packages offer."""
    return sorted({point.name for point in entry_points(group=METRICS_GROUP)})


def load_metric(name: str) -> Any:
    """Return the metric that a package offers under a name.

    Raises:
        StageFailed: when it cannot be loaded.
    """
    (point, *_) = entry_points(group=METRICS_GROUP, name=name)
    try:
        loaded = point.load()
    except Exception as error:  # another's code may raise anything
        raise StageFailed(
            "plugin_broken", f"{point.value}, the {name!r} of {METRICS_GROUP}, cannot be loaded: {error}"
        ) from error
    if not callable(loaded):
        raise StageFailed(
            "plugin_broken", f"{point.value}, the {name!r} of {METRICS_GROUP}, cannot be called"
        )
    return loaded


def nearest(name: str, known: list[str]) -> str:
    """Return a hint that names the nearest known name and all known ones."""
    close = get_close_matches(name.removesuffix("_test"), known, n=1, cutoff=0.0)
    return f"did you mean {close[0]!r}? Known are {', '.join(known)}" if close else "none is known"
