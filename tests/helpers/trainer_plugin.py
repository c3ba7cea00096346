"""The example of a trainer of one's own, installed as a distribution with an entry point."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = """\
import json, pathlib, sys

file, model = map(pathlib.Path, sys.argv[1:])
rows = [json.loads(line) for line in file.read_text().splitlines()]
wins = {}
for row in rows:
    for answer, won in ((row["chosen"], 1), (row["rejected"], -1)):
        wins[answer] = wins.get(answer, 0) + won
(model / "preferences.json").write_text(json.dumps({"rows": len(rows), "wins": wins}))
"""
"""A model that counts how often each answer is preferred."""


def install_trainer(
    folder: Path, *, name: str = "command", value: str = "trainer_backend:BACKEND", owner: str | None = None
) -> list[str]:
    """Write what an installation leaves in site-packages; return what goes on the path.

    Args:
        folder: the site-packages.
        name: the ``_type``.
        value: of the entry point.
        owner: the distribution; by default named after the trainer.
    """
    distribution = owner or f"{name}-trainer"
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tunestream.trainer_backends]\n{name} = {value}\n")
    return [str(folder), str(EXAMPLES)]


def training_command(folder: Path) -> list[str]:
    """Return a command that trains: a program of its own."""
    program = folder / "train.py"
    program.write_text(TRAIN)
    return [sys.executable, str(program)]
