"""Names that users rely on stay: what ``names.yaml`` records is still in the code.

New names may come; ``python -m tests.contract.names --write`` records them, so that they stay from then on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.names import ENVIRONMENT, RECORD, missing

ROOT = Path(__file__).parents[2]
SECTIONS = (
    "command line",
    "entry point groups",
    "environment variables",
    "metrics",
    "services",
    "topics",
    "wire",
)


def printed(module: str) -> dict[str, Any]:
    """Return what a module prints in a process of its own: other tests set other environments."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names: dict[str, Any] = yaml.safe_load(done.stdout)
    return names


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(RECORD.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The names of the code but for the keys of ``--json``."""
    return printed("tests.contract.names")


@pytest.mark.parametrize("section", SECTIONS)
def test_no_name_is_gone(section: str, recorded: dict[str, Any], found: dict[str, Any]) -> None:
    gone = missing(recorded[section], found[section], section)
    assert not gone, "users rely on these names:\n" + "\n".join(gone)


def test_no_key_of_a_commands_json_is_gone(recorded: dict[str, Any]) -> None:
    gone = missing(recorded["--json"], printed("tests.contract.json_keys"))
    assert not gone, "scripts rely on these keys:\n" + "\n".join(gone)


def test_closed_enumerations_get_no_new_values(recorded: dict[str, Any], found: dict[str, Any]) -> None:
    now = found["wire"]["enumerations"]
    grown = {
        name: sorted(set(now.get(name, [])) - set(values))
        for name, values in recorded["wire"]["enumerations"].items()
    }
    assert not {name: values for name, values in grown.items() if values}, "new optional fields instead"


def test_every_command_that_prints_json_has_its_keys_recorded(recorded: dict[str, Any]) -> None:
    printing = {path for path, takes in recorded["command line"].items() if "--json" in takes["options"]}
    assert printing == {name.partition(" --")[0].partition(",")[0] for name in recorded["--json"]}


def test_every_section_is_held(recorded: dict[str, Any]) -> None:
    assert sorted(recorded) == sorted(("--json", *SECTIONS))
    assert all(recorded.values())


def test_missing_finds_what_is_gone_or_differs_and_not_what_is_new() -> None:
    record = {"a": {"b": ["x", "y"], "c": "one"}, "d": {}}
    assert missing(record, {"a": {"b": ["z", "y", "x"], "c": "one", "e": 1}, "d": {"f": 1}}) == []
    assert missing(record, {"a": {"b": ["y"], "c": "two"}}) == ["/a/b: x", "/a/c: one (now two)", "/d"]
