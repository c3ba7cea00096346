"""From a collection of trajectories to the rows of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole, Trajectory, TrajectoryCollection

__all__ = ["SHOWN_AS", "Rows", "rows_of"]

SHOWN_AS: Final = {
    EpisodeItemRole.FUNCTION: "tool",
    EpisodeItemRole.ENVIRONMENT: "user",
    EpisodeItemRole.OTHER: "user",
}
"""Roles that chat templates do not know → what they are shown as."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a collection becomes.

    Attributes:
        config: the trainer section, with what the collection settled of it.
        train: rows to train on.
        validation: rows that are held out.
    """

    config: TrainerSection
    train: Sequence[DatasetRow]
    validation: Sequence[DatasetRow] = ()

    def store(self, store: ArtifactStore) -> dict[str, Any]:
        """Store the rows; return ``config``, ``train`` and ``validation`` of a JobSpec."""
        held_out = put_rows(store, self.validation) if self.validation else None
        return {"config": self.config, "train": put_rows(store, self.train), "validation": held_out}


def rows_of(collection: TrajectoryCollection) -> list[DatasetRow]:
    """Return a row for each trajectory; those of one group share its number as their ``group_id``.

    Raises:
        ValueError: when there is no trajectory, or an empty one.
    """
    groups = enumerate(collection.trajectories)
    rows = [_row(one, group) for group, members in groups for one in members]
    if not rows:
        raise ValueError(f"the collection of run {collection.run_id!r} has no trajectories to train on")
    return rows


def _row(trajectory: Trajectory, group: int) -> DatasetRow:
    meta: dict[str, Any] = trajectory.metadata or {}
    names = {"group_id": str(group), "example_id": str(meta.get("example_id", group))}
    if not trajectory.episode:
        raise ValueError(f"a trajectory of group {group} is empty; leave it out")
    first, *more = trajectory.episode
    if isinstance(first, EpisodeItem):
        return EpisodeRow(**names, items=[first, *more], reward=trajectory.reward)
    return PreferenceRow(
        **names,
        turn_id=str(meta.get("turn_id", "")),
        prompt=first.prompt,
        chosen=first.chosen_message or first.chosen_response,
        rejected=first.rejected_message or first.rejected_response,
        chosen_score=meta.get("chosen_score", trajectory.reward),
        rejected_score=meta.get("rejected_score", 0.0),
        reward=trajectory.reward,
        tools=first.tools,
        prompt_token_ids=first.prompt_token_ids,
        chosen_token_ids=first.chosen_token_ids,
        rejected_token_ids=first.rejected_token_ids,
    )
