"""What is checked, and what breaks it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.prose.index import guides, kinds, pages
from tools.prose.text import Passage, lines_of_page, passages_of_module, sentences_of_page

__all__ = ["MOST_WORDS", "Finding", "findings_in_pages", "findings_in_source", "synonyms"]

MOST_WORDS: Final = 25
"""Words of a sentence in a guide, at most."""

_LIST: Final = Path(__file__).with_name("words.toml")
_GLOSSARY: Final = Path("docs/glossary.md")
_NOT_OURS: Final = frozenset({Path("docs/wire/README.md")})  # generated as a whole
_ROW: Final = re.compile(r"^\| \*\*(.+?)\*\* \|.*\| ([^|]*) \|$", re.MULTILINE)
_WORD: Final = re.compile(r"[^\s]*\w[^\s]*")


class Finding(NamedTuple):
    """Something to be written otherwise.

    Attributes:
        path: relative to the repository.
        line: counted from 1.
        problem: what it is, and the remedy.
    """

    path: Path
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.problem}"


def findings_in_pages(root: Path) -> list[Finding]:
    """Return what the pages do not keep: the index, the word list, the glossary, the lengths in guides.

    Args:
        root: of the repository.
    """
    found = [Finding(path, 1, "no kind: name the page once in docs/README.md") for path in _unsorted(root)]
    long = guides(root)
    for path in pages(root):
        if path in _NOT_OURS:
            continue
        text = (root / path).read_text("utf-8")
        found += _words(path, lines_of_page(text), _forbidden())
        if path != _GLOSSARY:
            found += _words(path, lines_of_page(text), synonyms(root))
        if path in long:
            found += _lengths(path, text)
    return found


def findings_in_source(root: Path, *, everywhere: bool = False) -> list[Finding]:
    """Return the words of the list in docstrings, comments and texts of Python modules.

    Modules whose texts are data are left out.

    Args:
        root: of the repository.
        everywhere: look at all code that users install, and not only where the list is kept already.
    """
    places = ["shared", "services", "tools", "examples"] if everywhere else _settings()["source"]
    data = {root / name for name in _settings()["data"]}
    files = [file for place in places for file in _modules(root / place) if file not in data]
    return [
        finding
        for file in files
        for finding in _words(file.relative_to(root), passages_of_module(file), _forbidden())
    ]


def synonyms(root: Path) -> dict[str, str]:
    """Return the words that the glossary forbids, with the name to use.

    Args:
        root: of the repository.
    """
    rows = _ROW.findall((root / _GLOSSARY).read_text("utf-8"))
    return {word.strip(): name for name, words in rows for word in words.split(",") if word.strip()}


def _unsorted(root: Path) -> list[Path]:
    named = [path for places in kinds(root).values() for path in places]
    return [path for path in pages(root) if named.count(path) != 1]


def _words(path: Path, passages: Iterator[Passage], instead: dict[str, str]) -> Iterator[Finding]:
    pattern = _any_of(tuple(instead))
    for line, text in passages:
        for match in pattern.finditer(text):
            found = " ".join(match[0].lower().split())
            yield Finding(path, line, f"{found!r}; use: {instead[found]}")


def _lengths(path: Path, text: str) -> Iterator[Finding]:
    for line, sentence in sentences_of_page(text):
        count = len(_WORD.findall(sentence))
        if count > MOST_WORDS:
            yield Finding(path, line, f"a sentence of {count} words, {MOST_WORDS} at most: {sentence[:60]}…")


def _modules(place: Path) -> Sequence[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


@cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(longest_first)})(?![\w-])", re.IGNORECASE)


def _forbidden() -> dict[str, str]:
    return {word: entry["instead"] for entry in _settings()["words"] for word in entry["find"]}


@cache
def _settings() -> dict[str, Any]:
    return tomllib.loads(_LIST.read_text("utf-8"))
