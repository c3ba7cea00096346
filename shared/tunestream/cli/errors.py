"""What goes wrong in a command, and the exit code that it becomes.

Errors of other packages are recognised only when those packages are loaded: help needs none of them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from rich.markup import escape

if TYPE_CHECKING:
    from pydantic_core import ValidationError

__all__ = ["Failure", "TryAgain", "failure_of"]


class Failure(Exception):
    """The user's fault or a failed run.

    Attributes:
        remedy: what to do about it, a sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    @property
    def markup(self) -> str:
        """The message and the remedy, for Rich."""
        text = escape(str(self))
        return f"{text}\n[dim]→ {escape(self.remedy)}[/]" if self.remedy else text


class TryAgain(Failure):
    """Nothing is wrong with the call; something it needs is away."""

    exit_code: ClassVar[int] = 3


def failure_of(error: Exception) -> Failure | None:
    """Return what an error means to the user, None when it is our bug."""
    if isinstance(error, Failure):
        return error
    if (failure := _of_kafka(error)) is not None:
        return failure
    if isinstance(error, BrokenPipeError):  # the reader of our output left; Typer ends quietly
        return None
    if isinstance(error, ConnectionError | TimeoutError):
        return TryAgain(str(error) or type(error).__name__)
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(f"{error.filename}: {error.strerror}")
    return _of_validation(error) or _of_rows(error) or _of_configuration(error)


def _of_validation(error: Exception) -> Failure | None:
    if "pydantic_core" not in sys.modules:
        return None
    from pydantic_core import ValidationError  # noqa: PLC0415 - help is fast without it

    return Failure(_fields(error)) if isinstance(error, ValidationError) else None


def _fields(error: ValidationError) -> str:
    """Name every field that is wrong, one a line, and never its value: it may be a secret."""
    lines = (f"{'.'.join(map(str, item['loc'])) or error.title}: {item['msg']}" for item in error.errors())
    return "\n".join(lines)


def _of_rows(error: Exception) -> Failure | None:
    if "tunestream.rows" not in sys.modules:
        return None
    from tunestream.rows.errors import RowError  # noqa: PLC0415 - the same

    return Failure(str(error)) if isinstance(error, RowError) else None


def _of_configuration(error: Exception) -> Failure | None:
    if "tunestream.config" not in sys.modules:
        return None
    from tunestream.config.files.errors import ConfigError  # noqa: PLC0415 - the same

    return Failure(str(error)) if isinstance(error, ConfigError) else None


def _of_kafka(error: Exception) -> Failure | None:
    if "aiokafka" not in sys.modules:
        return None
    from tunestream.streams.broker.unavailable import BrokerUnavailable  # noqa: PLC0415 - the same
    from tunestream.streams.errors import in_words, is_unavailable, is_users_fault  # noqa: PLC0415 - the same

    away = is_unavailable(error)
    if not away and not is_users_fault(error):
        return None
    kind = TryAgain if away else Failure
    if isinstance(error, BrokerUnavailable):
        return kind(error.problem, remedy=error.remedy)
    remedy = "Check KAFKA_BOOTSTRAP_SERVERS; what is wrong shows: tunestream doctor" if away else ""
    return kind(in_words(error), remedy=remedy)
