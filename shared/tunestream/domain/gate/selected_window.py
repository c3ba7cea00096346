"""A window whose selection trains."""

from __future__ import annotations

from dataclasses import dataclass

from tunestream.config.run.run import RunConfig
from tunestream.domain.gate.curriculum import EpochResult
from tunestream.domain.gate.dataset_rows import Row, SplitRows
from tunestream.events.training import CurriculumState, Objective

__all__ = ["SelectedWindow", "selected_window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedWindow:
    """A window whose selection trains.

    Attributes:
        run_id: of the run.
        config_digest: of the configuration under which its groups were made.
        objective: what the job optimises.
        epoch: number of the window within (run, config_digest), from 0.
        time: stream time of the decision, ms.
        train: rows to train on, never empty.
        validation: rows of held-out prompts, may be empty.
        groups: how many groups were selected.
        dropped: how many groups were left out, by reason.
        curriculum: after this epoch.
        policy_versions: that gave the rows, sorted.
        unversioned_rows: rows of which no version is known.
        state_digest: of the state of a curriculum strategy whose state the batch does not carry.
    """

    run_id: str
    config_digest: str
    objective: Objective
    epoch: int
    time: int
    train: list[Row]
    validation: list[Row]
    groups: int
    dropped: dict[str, int]
    curriculum: CurriculumState
    policy_versions: list[str]
    unversioned_rows: int
    state_digest: str | None


def selected_window(
    config: RunConfig, config_digest: str, epoch: EpochResult, rows: SplitRows, now: int
) -> SelectedWindow:
    """Put together what a window's epoch gave, decided at stream time ``now``, ms."""
    return SelectedWindow(
        run_id=config.run_id,
        config_digest=config_digest,
        objective=config.objective,
        epoch=epoch.number,
        time=now,
        train=rows.train,
        validation=rows.validation,
        groups=len(epoch.selection.groups),
        dropped=dict(epoch.selection.dropped),
        curriculum=epoch.curriculum,
        policy_versions=rows.policy_versions,
        unversioned_rows=rows.unversioned,
        state_digest=epoch.state_digest,
    )
