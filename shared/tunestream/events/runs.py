"""The configuration of a run as it travels: a document and its digest."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from tunestream.events.base import Identifier, Wire
from tunestream.events.registry import event_type

__all__ = [
    "FIRST_FORMAT",
    "FORMAT",
    "FORMAT_KEY",
    "TURN_FORMAT",
    "FormatRecord",
    "NewerFormat",
    "RunPointer",
    "RunRecord",
]

FORMAT: Final = 3
"""What a deployment of this release writes; it reads this format and the one before."""
FIRST_FORMAT: Final = 1
"""Of deployments older than the first :class:`FormatRecord`."""
FORMAT_KEY: Final = "format"
"""The one part of the key of the :class:`FormatRecord`."""
TURN_FORMAT: Final = 3
"""The first format with turns, scores and groups of version 2 on the wire."""


class NewerFormat(RuntimeError):
    """What a deployment writes has a format that this release cannot read."""


@event_type("tunestream.run.v1")
class RunRecord(Wire):
    """One configuration of a run; ``config`` is the native shape with every default filled in."""

    run_id: Identifier
    digest: Identifier
    config: dict[str, Any]


@event_type("tunestream.run_pointer.v1")
class RunPointer(Wire):
    """Which configuration new turns of a run open with."""

    run_id: Identifier
    digest: Identifier


@event_type("tunestream.format.v1")
class FormatRecord(Wire):
    """What the services of a deployment write, so that a release can be rolled back until it is raised."""

    format: int = Field(ge=1)
    reward_service: bool = Field(
        default=False, description="whether something answers the requests of ``ttc.unscored``"
    )
