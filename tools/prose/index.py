"""The pages and their kinds, as ``docs/README.md`` sorts them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["KINDS", "guides", "kinds", "pages"]

KINDS: Final = ("Tutorial", "Guides", "Explanation", "Reference")
_INDEX: Final = Path("docs/README.md")
_SECTION: Final = re.compile(r"^## (?P<kind>\w+)\n(?P<text>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_ENTRY: Final = re.compile(r"^- \[[^\]]+\]\((?P<path>[^)#]+\.md)\)", re.MULTILINE)


def pages(root: Path) -> list[Path]:
    """Return the pages that the index sorts: all of ``docs`` but the index, and CONTRIBUTING.

    Args:
        root: of the repository.
    """
    found = (path.relative_to(root) for path in sorted((root / "docs").rglob("*.md")))
    return [Path("README.md"), Path("CONTRIBUTING.md"), *(path for path in found if path != _INDEX)]


def kinds(root: Path) -> dict[str, list[Path]]:
    """Return the pages of each kind.

    Args:
        root: of the repository.
    """
    sections = _SECTION.finditer((root / _INDEX).read_text("utf-8"))
    return {
        section["kind"]: [_resolved(entry["path"]) for entry in _ENTRY.finditer(section["text"])]
        for section in sections
    }


def guides(root: Path) -> set[Path]:
    """Return the pages that a reader follows step by step: guides, and the tutorial.

    Args:
        root: of the repository.
    """
    sorted_ = kinds(root)
    return {*sorted_["Guides"], *sorted_["Tutorial"]}


def _resolved(link: str) -> Path:
    return Path(os.path.normpath(_INDEX.parent / link))
