"""``tunestream experiment``: from a file of examples to a judged model, and grids of them."""

from __future__ import annotations

from typing import Final

import typer

from tunestream.cli.extras import check_extra

__all__ = ["register"]

_NEEDED: Final = (
    "filelock",
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
    check_extra("experiments", *_NEEDED)
    from tunestream.cli.experiment.commands import experiments  # noqa: PLC0415 - needs those packages

    app.add_typer(experiments, name="experiment")
