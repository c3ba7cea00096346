"""The domain reads no clock, no chance, no environment and no file: whatever it needs is an argument."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TUNESTREAM = Path(__file__).parents[3] / "shared" / "tunestream"
ROOMS: Final = ("domain", "rows", "rewards")
OPENS_FILES: Final = TUNESTREAM / "rows" / "opening.py"
MODULES: Final = sorted(
    {path for room in ROOMS for path in (TUNESTREAM / room).rglob("*.py")} - {OPENS_FILES}
)

CLOCK: Final = {
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
IMPURE_MODULES: Final = {"time", "random", "secrets", "os", "socket", "subprocess", "tempfile", "logging"}
IMPURE: Final = CLOCK | {"uuid.uuid1", "uuid.uuid4", "open", "print", "input", "io.open", "pathlib.Path"}
SEEDED: Final = "random.Random"


def impurities(source: str) -> list[str]:
    """Return what a module uses and must not, as ``line: dotted name``."""
    tree = ast.parse(source)
    origins = dict(_imported(tree))
    seeded = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (node.args or node.keywords)
    }
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = _dotted(node, origins)
        if name == SEEDED and (id(node) in seeded or id(node) not in called):
            continue  # given its seed, or named as a type
        if name in IMPURE or ("." in name and name.partition(".")[0] in IMPURE_MODULES):
            found.append(f"{node.lineno}: {name}")
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each local name that an import gives, with what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.asname or name.name, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


def _dotted(node: ast.expr, origins: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, origins)}.{node.attr}"
    return origins.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 30


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TUNESTREAM)))
def test_a_module_is_pure(path: Path) -> None:
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\ndatetime.now()",
        "import datetime as d\nd.datetime.utcnow()",
        "from datetime import date as day\nday.today()",
        "from dataclasses import field\nfrom datetime import datetime\nfield(default_factory=datetime.now)",
        "import time\ntime.monotonic()",
        "from time import time as now\nnow()",
        "import random\nrandom.random()",
        "from random import Random\nRandom()",
        "from random import Random\nfield(default_factory=lambda: Random())",
        "from random import shuffle\nshuffle([])",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid4\nfield(default_factory=uuid4)",
        "import os\nos.environ['A']",
        "from os import environ\nenviron.get('A')",
        "with open('a') as file: pass",
        "from pathlib import Path\nPath('a').read_text()",
        "def f():\n    import secrets\n    return secrets.token_hex()",
    ],
)
def test_what_is_impure_is_found(source: str) -> None:
    assert impurities(source)


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(1, UTC)",
        "from random import Random\nRandom(1).sample([1], 1)",
        "from random import Random\ndef f(rng: Random) -> float:\n    return rng.random()",
        "import uuid\nuuid.uuid5(uuid.NAMESPACE_URL, 'a')",
        "def f(time: int) -> int:\n    return time + 1",
    ],
)
def test_what_is_pure_is_not(source: str) -> None:
    assert impurities(source) == []
