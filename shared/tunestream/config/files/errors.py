"""What is wrong with a run's file, in the words of the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ConfigError", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a note.

    Attributes:
        where: file and line, e.g. ``run.yaml:12``.
        path: dotted path of the key, empty for the whole file.
        message: what is wrong and how to mend it.
    """

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.message}" if self.path else f"{self.where}: {self.message}"


class ConfigError(ValueError):
    """A run's file cannot be used; its text is one problem a line.

    Attributes:
        problems: all that was found, in the order of the file's sections.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
