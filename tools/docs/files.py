"""Which files are generated, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.docs.baseline import BASELINE
from tools.docs.run_tables import run_tables
from tools.docs.service_tables import service_tables
from tools.wire import wire_documents

__all__ = ["generated_files", "stale_files", "write_files"]

_WIRE: Final = Path("docs/wire")
_BLOCK: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def generated_files(root: Path) -> dict[Path, str]:
    """Return the text of each generated file, and of each page with generated tables.

    Args:
        root: of the repository.
    """
    tables = {**service_tables(), **run_tables()}
    files = {root / _WIRE / name: text for name, text in wire_documents().items()}
    return files | {page: _filled(page, tables) for page in _pages(root)}


def stale_files(root: Path) -> list[Path]:
    """Return the files that are not as they would be written, and those that nobody writes any more."""
    files = generated_files(root)
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    return changed + list(_left_over(root, files))


def write_files(root: Path) -> list[Path]:
    """Write what is stale and return it."""
    files = generated_files(root)
    stale = stale_files(root)
    for path in stale:
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    return stale


def _pages(root: Path) -> Iterator[Path]:
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return (page for page in pages if page.is_file() and _BLOCK.search(page.read_text("utf-8")))


def _filled(page: Path, tables: Mapping[str, str]) -> str:
    """Return a page with its blocks as they should be.

    Raises:
        KeyError: when it has a block that no table fills.
    """
    return _BLOCK.sub(
        lambda block: f"{block[1]}\n{tables[block['name']]}\n\n{block[3]}", page.read_text("utf-8")
    )


def _left_over(root: Path, files: Mapping[Path, str]) -> Iterator[Path]:
    for path in sorted((root / _WIRE).rglob("*")):
        if path.is_file() and path not in files and root / BASELINE not in path.parents:
            yield path
