"""``tunestream experiment``: from a file of examples to a judged model, and grids of them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import typer

from tunestream.cli.errors import Failure

__all__ = ["register"]

_NEEDED: Final = (
    "filelock",
    "ijson",
    "jinja2",
    "matplotlib",
    "numpy",
    "rouge_score",
    "textblob",
    "transformers",
)


def register(app: typer.Typer) -> None:
    """Add ``experiment`` to ``app``.

    Raises:
        Failure: when packages that it needs are not installed.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise Failure(
            f"packages are missing: {', '.join(missing)}", remedy="pip install 'tunestream[experiments]'"
        )
    from tunestream.cli.experiment.commands import experiments  # noqa: PLC0415 - needs those packages

    app.add_typer(experiments, name="experiment")
