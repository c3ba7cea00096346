"""What is read of the services' answers. The client does not validate them; these do."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

from tunestream.events.base import Foreign

__all__ = ["Anything", "DeploymentView", "JobPage", "JobView", "StatusView"]


def _number(value: Any) -> float | None:
    """A number, or None for what is none: a service that reports nonsense still trains."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


Number = Annotated[float | None, BeforeValidator(_number)]
Texts = Annotated[dict[str, str], BeforeValidator(_texts)]


class Anything(Foreign):
    """An object of which nothing is read."""


class JobView(Foreign):
    """A job of the customizer; ``custom_fields`` are what the adapter wrote there."""

    id: str
    status: str = "created"
    output_model: str | None = None
    custom_fields: Texts = {}


class JobPage(Foreign):
    """One page of the list of jobs."""

    data: list[JobView]


class _StatusLog(Foreign):
    message: str | None = None
    detail: str | None = None


class StatusView(Foreign):
    """How far a job is; ``percentage_done`` in per cent, ``elapsed_time`` in seconds."""

    status: str
    percentage_done: Number = None
    steps_completed: Number = None
    epochs_completed: Number = None
    elapsed_time: Number = None
    train_loss: Number = None
    val_loss: Number = None
    status_logs: list[_StatusLog] | None = None

    @property
    def last_words(self) -> str:
        """The latest entry of the job's log; empty when it has no text."""
        entry = self.status_logs[-1] if self.status_logs else _StatusLog()
        return ": ".join(text for text in (entry.message, entry.detail) if text)


class _DeploymentStatus(Foreign):
    status: str
    description: str | None = None


class DeploymentView(Foreign):
    """A NIM that serves a model."""

    status_details: _DeploymentStatus
    url: str = ""
