"""From groups to the rows of a dataset, train or held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tunestream.domain.gate.bodies import read_slices
from tunestream.domain.gate.slices import Line, SlicedGroup
from tunestream.domain.gate.split import is_held_out, opening_of
from tunestream.events.dataset import EpisodeRow, PreferenceRow
from tunestream.events.groups import PreferenceGroup
from tunestream.events.trajectories import DPOItem, EpisodeItem, Trajectory, TrajectoryGroup
from tunestream.events.views.groups import GroupSlices

__all__ = ["Line", "lines_of", "rows_of"]

Row = PreferenceRow | EpisodeRow


def lines_of(value: bytes, fraction: float, drawn: Sequence[int] | None = None) -> Iterator[Line]:
    """Make the lines of a group's trajectories, in order, holding out ``fraction`` of the run's prompts.

    Args:
        value: a group of either version that :func:`~tunestream.domain.gate.bodies.read_group` took.
        fraction: of the prompts.
        drawn: positions of the trajectories that are wanted; None for all.
    """
    body = read_slices(value)
    if isinstance(body, GroupSlices):
        group = SlicedGroup(body, value, fraction)
        yield from map(group.line, body.pairs if drawn is None else [body.pairs[at] for at in drawn])
        return
    rows = list(rows_of(body))
    for row in rows if drawn is None else [rows[at] for at in drawn]:
        prompt = opening_of(row.items) if isinstance(row, EpisodeRow) else row.prompt
        held_out = is_held_out(body.run_id, prompt, fraction)
        yield Line(row.to_json(), held_out, row.policy_version)


def rows_of(group: TrajectoryGroup | PreferenceGroup) -> Iterator[Row]:
    """Make the row of each trajectory of a group, in order."""
    for trajectory in group.trajectories:
        first = trajectory.episode[0]
        if isinstance(first, DPOItem):
            yield _preference(group, trajectory, first)
        else:
            items = [item for item in trajectory.episode if isinstance(item, EpisodeItem)]
            yield _episode(group, trajectory, items)


def _preference(
    group: TrajectoryGroup | PreferenceGroup, trajectory: Trajectory, item: DPOItem
) -> PreferenceRow:
    metadata = trajectory.metadata or {}
    return PreferenceRow(
        group_id=group.group_id,
        example_id=group.example_id,
        turn_id=group.turn_id,
        prompt=item.prompt,
        chosen=item.chosen_message or item.chosen_response,
        rejected=item.rejected_message or item.rejected_response,
        chosen_score=metadata["chosen_score"],
        rejected_score=metadata["rejected_score"],
        reward=trajectory.reward,
        policy_version=_version(metadata),
        tools=item.tools,
        prompt_token_ids=item.prompt_token_ids,
        chosen_token_ids=item.chosen_token_ids,
        rejected_token_ids=item.rejected_token_ids,
    )


def _episode(
    group: TrajectoryGroup | PreferenceGroup, trajectory: Trajectory, items: list[EpisodeItem]
) -> EpisodeRow:
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
