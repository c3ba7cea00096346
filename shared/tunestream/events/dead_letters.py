"""What is kept of dead letters beside themselves."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tunestream.events.base import Identifier, Wire
from tunestream.events.registry import event_type

__all__ = ["DeadLetterMark"]


@event_type("tunestream.dlq_mark.v1")
class DeadLetterMark(Wire):
    """``dlq.marks``: a dead letter was sent again."""

    topic: Identifier = Field(description="that it was refused from, without the deployment's prefix")
    partition: int = Field(ge=0, description="of the letter")
    offset: int = Field(ge=0, description="of the letter")
    refused: datetime = Field(
        description="time of the letter; with another one the mark is of an earlier topic of that name"
    )
    replayed: datetime
