"""Prose out of files: the sentences of a Markdown page, the texts of a Python module."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Passage", "lines_of_page", "passages_of_module", "sentences_of_page"]

_GENERATED: Final = re.compile(
    r"<!-- generated: .*?<!-- /generated -->|<!-- written by .*?<!-- end -->", re.DOTALL
)
_FENCE: Final = re.compile(r"^ *```.*?^ *```[^\n]*$", re.DOTALL | re.MULTILINE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_INDENTED: Final = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n+)+")
_INLINE: Final = re.compile(r"``[^\n]+?``|`[^`]+`")
_LINK: Final = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\([^)]*\)")
_ENDS: Final = re.compile(r"(?<=[.!?])[)\"'*]*\s+(?=[A-Z`*(\[\"x])")
_NEW_BLOCK: Final = re.compile(r"^\s*(?:[-*+] |\d+\. |#+ |\||>)")
_CODE: Final = "x"  # what stands for code: one word that no list names


class Passage(NamedTuple):
    """A piece of prose.

    Attributes:
        line: where it begins, counted from 1.
        text: without code and links.
    """

    line: int
    text: str


def lines_of_page(text: str) -> Iterator[Passage]:
    """Yield the lines of a page that are prose; what is generated or code is left out."""
    for number, line in enumerate(_prose(text).splitlines(), start=1):
        if line.strip():
            yield Passage(number, line)


def sentences_of_page(text: str) -> Iterator[Passage]:
    """Yield the sentences of a page: of paragraphs, of list items, and of the cells of tables."""
    for block in _blocks(list(lines_of_page(text))):
        for part in _cells(block.text.strip()):
            for sentence in _ENDS.split(" ".join(part.split())):
                yield Passage(block.line, sentence)


def passages_of_module(path: Path) -> Iterator[Passage]:
    """Yield what a Python module has for people: docstrings, other texts, comments; line by line."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _numbered(node.lineno, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from _numbered(token.start[0], token.string)


def _numbered(first: int, text: str) -> Iterator[Passage]:
    for number, line in enumerate(_plain(text).splitlines(), start=first):
        yield Passage(number, line)


def _prose(text: str) -> str:
    """Blank what is no prose, and keep the line numbers."""
    for pattern in (_GENERATED, _FENCE, _COMMENT, _INDENTED):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", "", found[0]), text)
    return _plain(text)


def _plain(text: str) -> str:
    text = _INLINE.sub(lambda found: _CODE + "\n" * found[0].count("\n"), text)
    return _LINK.sub(lambda found: "" if found["image"] else found["text"], text)


def _blocks(lines: list[Passage]) -> Iterator[Passage]:
    """Join the lines of one paragraph, list item or table row."""
    block: list[Passage] = []
    for line in lines:
        if block and (line.line != block[-1].line + 1 or _NEW_BLOCK.match(line.text) or _whole(block[-1])):
            yield Passage(block[0].line, " ".join(part.text for part in block))
            block = []
        block.append(line)
    if block:
        yield Passage(block[0].line, " ".join(part.text for part in block))


def _cells(block: str) -> list[str]:
    """Split a row of a table; other blocks stay whole."""
    return block.strip("|").split("|") if block.startswith("|") else [block]


def _whole(line: Passage) -> bool:
    """Whether a line ends its block by itself: a heading, a row of a table."""
    return line.text.lstrip().startswith(("#", "|"))
