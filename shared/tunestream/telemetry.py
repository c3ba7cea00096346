"""Structured logs: JSON lines for machines, a console form for people."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final

import structlog
from structlog.typing import Processor

from tunestream.config.settings import LogSettings

__all__ = ["Repeats", "configure_logging", "pass_on"]

_OURS: Final = "tunestream"
# These make handlers of their own, beside the one that has a form.
_FRAMEWORKS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "faststream", "faststream.access")
_CHATTY: Final = ("aiokafka", "httpx", "uvicorn", "uvicorn.error", "uvicorn.access")
_REPEAT_SECONDS: Final = 30.0
_STDERR: Final = 2
# A logger keeps the list with which it was first used: it is changed in place.
_processors: Final[list[Processor]] = []
_log = structlog.get_logger(__name__)


def configure_logging(settings: LogSettings, **bound: str) -> None:
    """Send every log line of this process to stderr in one form: ours, libraries', warnings and crashes.

    Args:
        settings: level and form.
        **bound: what each line should carry, e.g. ``service="pair-builder"``.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    _processors[:] = [*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.as_json = settings.format == "json"
    handler.addFilter(Repeats())
    # A thread, or a task made before, has no context variables: what is bound goes with every line.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _binding(bound),
                renderer,
            ],
        )
    )
    _take_over(handler, settings.level.upper())
    if handler.as_json:
        logging.captureWarnings(capture=True)
        sys.excepthook = _crashed
        threading.excepthook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)


class _Handler(logging.StreamHandler[Any]):
    """The one handler of a process that :func:`configure_logging` has set up."""

    as_json = False


def _binding(bound: dict[str, str]) -> Processor:
    def bind(_logger: Any, _name: str, line: Any) -> Any:
        return bound | line

    return bind


def _take_over(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _FRAMEWORKS:
        framework = logging.getLogger(name)
        framework.handlers, framework.propagate = [], True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    _log.critical("process.crashed", exc_info=(kind, error or kind(), trace))


class Repeats(logging.Filter):
    """Lets one line of each kind of a library through in half a minute, with how many were left out.

    A client without a broker logs the same a hundred times a second. Our own lines all pass.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._since: dict[tuple[str, int, str], float] = {}
        self._left_out: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line passes; the first after some were left out has their number."""
        if record.name.split(".", 1)[0] == _OURS or record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, record.levelno, str(record.msg)), self._clock()
        if now - self._since.get(kind, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return False
        self._since[kind] = now
        if left_out := self._left_out.pop(kind, 0):
            record.msg = f"{record.getMessage()} ({left_out:,} lines like this were left out)"
            record.args = None
        return True


def pass_on(line: str) -> None:
    """Pass on a line that a child process printed: as a log line where logs are JSON, else as it is."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler, _Handler) and handler.as_json for handler in handlers):
        if line:
            _log.info("child.printed", line=line)
        return
    with contextlib.suppress(OSError):  # a log that nobody reads any more
        os.write(_STDERR, f"{line}\n".encode())
