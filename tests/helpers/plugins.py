"""An installed package, as its folder in site-packages looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

from tunestream.experiments.qa.plugins import METRICS_GROUP


def install_plugin(folder: Path, name: str, code: str, *, metrics: Sequence[str]) -> None:
    """Write a module whose functions are entry points; ``folder`` goes on the path."""
    (folder / f"{name}.py").write_text(dedent(code), encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{each} = {name}:{each}\n" for each in metrics)
    (info / "entry_points.txt").write_text(f"[{METRICS_GROUP}]\n{lines}", encoding="utf-8")
