"""Structured logs: JSON lines for machines, a console form for people."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from tunestream.config.settings import LogSettings

__all__ = ["configure_logging"]


def configure_logging(settings: LogSettings, **bound: str) -> None:
    """Send every log line of this process to stderr in one form.

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
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("aiokafka", "httpx"):
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
    structlog.contextvars.bind_contextvars(**bound)
