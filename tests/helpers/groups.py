"""Groups on the topic `trajectories`, of either version."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import TrajectoryGroup

__all__ = ["GROUP_TYPES", "AnyGroup", "read_group"]

AnyGroup = PreferenceGroup | TrajectoryGroup
GROUP_TYPES: Final = frozenset({"tunestream.trajectory_group.v1", "tunestream.trajectory_group.v2"})
_ANY: Final[TypeAdapter[AnyGroup]] = TypeAdapter(AnyGroup)


def read_group(body: bytes) -> AnyGroup:
    """Return the group of a body."""
    return _ANY.validate_json(body)
