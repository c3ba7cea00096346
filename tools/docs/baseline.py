"""The schemas as released, and what those of today no longer keep of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from tools.wire import breaking_changes, schema_of
from tunestream.events.registry import event_types

__all__ = ["BASELINE", "broken_promises", "release"]

BASELINE: Final = Path("docs/wire/baseline")
_REMEDY: Final = "register the body under the next major version and keep reading the old one"


def broken_promises(root: Path) -> list[str]:
    """Return what the schemas break of the baseline, a line each.

    Args:
        root: of the repository.
    """
    problems: list[str] = []
    for path in sorted((root / BASELINE).glob("*.json")):
        if path.stem not in event_types():
            problems.append(f"{path.stem}: the type was removed; {_REMEDY}")
            continue
        changes = breaking_changes(json.loads(path.read_text("utf-8")), schema_of(path.stem))
        problems += [f"{path.stem}: {change}; {_REMEDY}" for change in changes]
    return problems


def release(root: Path) -> None:
    """Make the schemas as they are in ``docs/wire`` the baseline."""
    shutil.rmtree(root / BASELINE, ignore_errors=True)
    shutil.copytree(root / "docs/wire/schemas", root / BASELINE)
