"""Groups of either version as the curriculum sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from tunestream.domain.effects import Refused
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import DPOItem, TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.views.groups import GroupSlices, PreferenceGroupView

__all__ = ["Arrival", "GroupBody", "arrival_of", "read_group", "read_slices", "reference_in"]

GroupBody = PreferenceGroupView | TrajectoryGroup


class Arrival(NamedTuple):
    """What the gate decides by of a group; its body stays bytes.

    Attributes:
        scores: of its members, in order of arrival.
        versions: that answered, one for each score.
        rewards: by which the group is ranked: its candidates' scores, or its episodes' rewards.
        size: trajectories.
        unscored: candidates that got no score.
        skipped: pairs that were not made, by reason.
    """

    run_id: str
    group_id: str
    example_id: str
    config_digest: str
    scores: Sequence[float]
    versions: Sequence[str | None]
    rewards: Sequence[float]
    size: int
    unscored: int
    skipped: Mapping[str, int]


class _Kind(msgspec.Struct, gc=False):
    members: msgspec.Raw = msgspec.Raw(b"")
    uri: str | None = None


_read_kind: Final = msgspec.json.Decoder(_Kind).decode


def reference_in(value: bytes) -> TrajectoryGroupRef | None:
    """Return the reference that stands for a group's body, None for a body itself."""
    return None if _read_kind(value).uri is None else TrajectoryGroupRef.of_service(value)


def read_group(value: bytes) -> GroupBody:
    """Read a group of either version that a service wrote.

    Raises:
        pydantic.ValidationError: when it is none.
    """
    found = PreferenceGroupView.read(value)
    if found is not None:
        return found
    if _read_kind(value).members:
        return PreferenceGroupView.of(PreferenceGroup.of_service(value))
    return TrajectoryGroup.of_service(value)


def read_slices(value: bytes) -> GroupSlices | TrajectoryGroup:
    """Read again what :func:`read_group` has read, for its rows."""
    found = GroupSlices.read(value)
    if found is not None:
        return found
    if _read_kind(value).members:
        found = GroupSlices.read(PreferenceGroup.of_service(value).to_json())
        assert found is not None, "what the model writes of a group has all its slices"
        return found
    return TrajectoryGroup.of_service(value)


def arrival_of(body: GroupBody) -> Arrival:
    """Return what the gate decides by.

    Raises:
        Refused: when a trajectory cannot be made a row.
    """
    if isinstance(body, TrajectoryGroup):
        return _spelt_out(body)
    _check_positions(body)
    scores = [member.score for member in body.members]
    return Arrival(
        body.run_id,
        body.group_id,
        body.example_id,
        body.config_digest,
        scores,
        [member.policy_version for member in body.members],
        scores,
        len(body.pairs),
        body.unscored,
        body.skipped,
    )


def _spelt_out(group: TrajectoryGroup) -> Arrival:
    _check_episodes(group)
    scores = [member.score for member in group.scores]
    episodes = [trajectory.reward for trajectory in group.trajectories]
    return Arrival(
        group.run_id,
        group.group_id,
        group.example_id,
        group.config_digest,
        scores,
        [member.policy_version for member in group.scores],
        scores if group.kind == "preference" else episodes,
        len(group.trajectories),
        0,
        group.skipped,
    )


def _check_positions(group: PreferenceGroupView) -> None:
    members, contexts = len(group.members), len(group.contexts)
    if max((member.context for member in group.members), default=-1) >= contexts:
        raise Refused("schema.bounds", f"a member of group {group.group_id} names a context of {contexts}")
    for pair in group.pairs:
        if pair.chosen >= members or pair.rejected >= members:
            raise Refused(
                "schema.bounds",
                f"group {group.group_id} pairs {pair.chosen} and {pair.rejected} of {members} members",
            )


def _check_episodes(group: TrajectoryGroup) -> None:
    for trajectory in group.trajectories:
        if not trajectory.episode:
            raise Refused("schema.bounds", f"group {group.group_id} has an empty episode; leave it out")
        if isinstance(trajectory.episode[0], DPOItem):
            metadata = trajectory.metadata or {}
            for name in ("chosen_score", "rejected_score"):
                if not isinstance(metadata.get(name), int | float):
                    raise Refused(
                        "schema.missing", f"a trajectory's metadata.{name} is missing; give a number"
                    )
