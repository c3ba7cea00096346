"""From groups of trajectories to the rows of a dataset, split into train and validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunestream.domain.effects import Refused
from tunestream.domain.gate.split import is_held_out, opening_of
from tunestream.events.dataset import EpisodeRow, PreferenceRow
from tunestream.events.trajectories import DPOItem, EpisodeItem, Trajectory, TrajectoryGroup

__all__ = ["Row", "SplitRows", "check_group", "split_rows"]

Row = PreferenceRow | EpisodeRow


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of a dataset in the order of their groups."""

    train: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)

    @property
    def policy_versions(self) -> list[str]:
        """The versions that gave the rows, sorted."""
        return sorted({row.policy_version for row in self._all() if row.policy_version is not None})

    @property
    def unversioned(self) -> int:
        """Rows of which no version is known."""
        return sum(row.policy_version is None for row in self._all())

    def _all(self) -> list[Row]:
        return self.train + self.validation


def check_group(group: TrajectoryGroup) -> None:
    """Make sure that every trajectory of a group can be made a row.

    Raises:
        Refused: when an episode is empty, or a preference lacks the scores of its responses.
    """
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


def split_rows(groups: Iterable[TrajectoryGroup], fraction: float) -> SplitRows:
    """Make rows of trajectories, holding out ``fraction`` of the run's prompts."""
    rows = SplitRows()
    for group in groups:
        for trajectory in group.trajectories:
            first = trajectory.episode[0]
            if isinstance(first, DPOItem):
                row: Row = _preference(group, trajectory, first)
                prompt = first.prompt
            else:
                items = [item for item in trajectory.episode if isinstance(item, EpisodeItem)]
                row, prompt = _episode(group, trajectory, items), opening_of(items)
            held_out = is_held_out(group.run_id, prompt, fraction)
            (rows.validation if held_out else rows.train).append(row)
    return rows


def _preference(group: TrajectoryGroup, trajectory: Trajectory, item: DPOItem) -> PreferenceRow:
    metadata = trajectory.metadata or {}
    return PreferenceRow(
        group_id=group.group_id,
        example_id=group.example_id,
        turn_id=group.turn_id,
        prompt=item.prompt,
        chosen=item.chosen_response,
        rejected=item.rejected_response,
        chosen_score=metadata["chosen_score"],
        rejected_score=metadata["rejected_score"],
        reward=trajectory.reward,
        policy_version=_version(metadata),
    )


def _episode(group: TrajectoryGroup, trajectory: Trajectory, items: list[EpisodeItem]) -> EpisodeRow:
    return EpisodeRow(
        group_id=group.group_id,
        example_id=group.example_id,
        items=items,
        reward=trajectory.reward,
        policy_version=_version(trajectory.metadata or {}),
    )


def _version(metadata: dict[str, Any]) -> str | None:
    version = metadata.get("policy_version")
    return version if isinstance(version, str) else None
