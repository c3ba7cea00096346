"""Options that several commands about experiments have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = ["SAVE_DIR", "ExperimentArgument", "MetricOption", "SaveDirOption"]

SAVE_DIR: Final = Path("./experiments")

SaveDirOption = Annotated[Path, typer.Option("--save-dir", file_okay=False, help="The experiments' folder.")]
ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Its id, the beginning of it, or its name.")
]
MetricOption = Annotated[
    str | None, typer.Option("--metric", metavar="NAME", help="Chooses the best arm; by default the study's.")
]
