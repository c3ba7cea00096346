"""What commands log beside their output: our warnings, for people, and nothing of the client."""

from __future__ import annotations

import logging
from typing import Literal

__all__ = ["quiet_client", "show_logs"]


def show_logs(level: Literal["warning", "error"]) -> None:
    """Log to stderr, for people, from this level on."""
    from tunestream.config.settings import LogSettings  # noqa: PLC0415 - help is fast without it
    from tunestream.telemetry import configure_logging  # noqa: PLC0415 - the same

    configure_logging(LogSettings(level=level, format="console"))
    quiet_client()


def quiet_client() -> None:
    """Log nothing of the Kafka client: what it logs as errors it also raises, and an error is shown once."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
