"""The values of a file with the line of each of its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunestream.config.files.errors import Problem

__all__ = ["Document", "Keys", "dotted"]

Keys = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """The values of a file and where they came from.

    Attributes:
        name: the file's name in messages.
        data: nested dicts, lists and scalars; a key with nothing after it is left out.
        lines: path of each key → line, from 1.
        renamed: path here → path in the file, for sections that were moved.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Keys, int] = field(default_factory=dict)
    renamed: dict[Keys, Keys] = field(default_factory=dict)

    def where(self, path: Keys) -> str:
        """Return file and line of a key, or of the section that should hold it."""
        known = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)
        return self.name if known is None else f"{self.name}:{self.lines[known]}"

    def problem(self, path: Keys, message: str) -> Problem:
        """Return a problem with the key at ``path``, named as in the file."""
        return Problem(self.where(path), dotted(self._original(path)), message)

    def copy(self, path: Keys, target: Document, to: Keys) -> None:
        """Copy the section at ``path`` to ``to`` in ``target``, over what stands there."""
        place = target.data
        for key in to[:-1]:
            place = place.setdefault(str(key), {})
        place[str(to[-1])] = self.at(path)
        target.renamed[to] = self._original(path)
        for known, line in list(self.lines.items()):
            if known[: len(path)] == path:
                target.lines[to + known[len(path) :]] = line

    def at(self, path: Keys) -> Any:
        """Return the value at ``path``, None when there is none."""
        value: Any = self.data
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def drop(self, path: Keys) -> None:
        """Remove the key at ``path``."""
        del self.at(path[:-1])[path[-1]]

    def _original(self, path: Keys) -> Keys:
        for end in range(len(path), 0, -1):
            if path[:end] in self.renamed:
                return self.renamed[path[:end]] + path[end:]
        return path


def dotted(path: Keys) -> str:
    """Write a path as people read it, e.g. ``serving[0].url``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")
