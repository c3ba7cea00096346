"""docs/extending.md is followed to the letter, on a copy of the tree: a topic, and a field of an event."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Any

import pytest

from tunestream.domain.gate.selection import Epoch

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/extending.md"
COPIED = ("docs", "examples", "services", "shared", "tests", "tools", "pyproject.toml", "README.md")
SECTIONS = ("Add a topic", "Add a field")
DEADLINE = 240

_FILE = re.compile(r"^ *`(?P<path>[\w/]+\.py)`(?P<new> \(new\))?:$", re.MULTILINE)
_BLOCK = re.compile(r"^ *```(?P<kind>diff|python)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    return PAGE.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def changes(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, kind and text of each block behind the name of a file."""
    places = list(_FILE.finditer(text))
    for place, following in zip(places, [*places[1:], None], strict=True):
        for block in _BLOCK.finditer(text, place.end(), following.start() if following else len(text)):
            yield place["path"], block["kind"], dedent(block["text"])


def apply(tree: Path, path: str, kind: str, text: str) -> None:
    """Write a new file, or add the lines with a plus to the only place that has the other lines."""
    file = tree / path
    if kind == "python":
        assert not file.exists(), path
        file.write_text(text, "utf-8")
        return
    lines = text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line.startswith(" "))
    after = "".join(line[1:] for line in lines)
    source = file.read_text("utf-8")
    assert source.count(before) == 1, f"{path}: {before!r} is there {source.count(before)} times"
    file.write_text(source.replace(before, after), "utf-8")


def run(tree: Path, *arguments: str) -> str:
    """Run a module of the copy, whose packages come before the installed ones."""
    places = os.pathsep.join(str(tree / name) for name in ("shared", "services", ""))
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str, str]]:
    return [step for title in SECTIONS for step in changes(section(title))]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]) -> Path:
    """A copy of the repository with both changes, one after the other: each starts interpreters."""
    copy = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    for step in steps:
        apply(copy, *step)
    return copy


def test_every_step_names_its_files(steps: list[tuple[str, str, str]]) -> None:
    assert {path for path, kind, _ in steps if kind == "python"} == {
        "shared/tunestream/events/feedback.py",
        "tests/unit/events/test_feedback.py",
        "tests/unit/domain/collector/test_latency.py",
    }
    assert len(steps) == 12


def test_the_steps_of_the_page_are_enough(tree: Path, steps: list[tuple[str, str, str]]) -> None:
    written = run(tree, "tools.docs", "--release")
    assert "wrote docs/wire/schemas/tunestream.feedback.v1.json" in written
    assert "wrote docs/wire/schemas/tunestream.ttc.episode.v1.json" in written
    new = [path for path, _, _ in steps if path.startswith("tests/")]
    run(tree, "pytest", "-q", "-p", "no:cacheprovider", *dict.fromkeys(new), "tests/contract/test_wire.py")


def test_the_strategy_of_the_page_selects() -> None:
    strategy = block_of("Add a curriculum strategy")["STRATEGY"]
    config = strategy.config.model_validate({"_type": "rotating", "enabled": True, "groups": 2})
    epoch = Epoch(number=1, rewards=[[0.9], [0.1], [0.5]], sizes=[1] * 3, rng=Random(0))
    selection = strategy.select(epoch, {"next": 2}, config)
    assert (list(selection.groups), selection.state) == ([2, 0], {"next": 4})


def test_the_metric_of_the_page_scores() -> None:
    shouting = block_of("Add a metric of answers")["shouting"]
    assert [shouting(prompt="", ground_truth="", predicted=text) for text in ("YES", "yes")] == [1.0, 0.0]


def block_of(title: str) -> dict[str, Any]:
    """Return what the Python block of a section defines."""
    (block,) = (found for found in _BLOCK.finditer(section(title)) if found["kind"] == "python")
    names: dict[str, Any] = {}
    exec(compile(dedent(block["text"]), str(PAGE), "exec", dont_inherit=True), names)
    return names


def test_only_registered_groups_are_named() -> None:
    groups = set(re.findall(r'entry-points\."([\w.]+)"', PAGE.read_text("utf-8")))
    source = "".join(path.read_text("utf-8") for path in (ROOT / "shared").rglob("*.py"))
    assert groups
    assert {group for group in groups if f'"{group}"' not in source} == set()
