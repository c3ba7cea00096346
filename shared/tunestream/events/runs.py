"""The configuration of a run as it travels: a document and its digest."""

from __future__ import annotations

from typing import Any

from tunestream.events.base import Identifier, Wire
from tunestream.events.registry import event_type

__all__ = ["RunPointer", "RunRecord"]


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
