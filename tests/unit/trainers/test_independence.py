"""Who trains is found by name: what calls a backend imports none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TRAINERS = ROOT / "shared" / "tunestream" / "trainers"
BACKENDS = ("trl", "art", "nemo")
KNOWS_NONE = [
    *(TRAINERS / "worker").glob("*.py"),
    *TRAINERS.glob("*.py"),
    *(ROOT / "services" / "tunestream_services").rglob("*.py"),
]


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports or names, also within its functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def backends_of(file: Path) -> set[str]:
    names = [f"tunestream.trainers.{backend}" for backend in BACKENDS]
    return {name for name in names for each in imported(file) if f"{each}.".startswith(f"{name}.")}


@pytest.mark.parametrize("file", KNOWS_NONE, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_backend_is_imported_by_what_calls_one(file: Path) -> None:
    assert backends_of(file) == set()


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        ("from tunestream.trainers import trl", "trl"),
        ("import tunestream.trainers.art.job", "art"),
        ("find('tunestream.trainers.nemo.backend')", "nemo"),
    ],
)
def test_an_import_of_a_backend_is_seen(tmp_path: Path, line: str, backend: str) -> None:
    file = tmp_path / "caller.py"
    file.write_text(f"def run():\n    {line}\n")
    assert backends_of(file) == {f"tunestream.trainers.{backend}"}
