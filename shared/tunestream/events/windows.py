"""What the curriculum gate decided about each group of a window."""

from __future__ import annotations

from pydantic import Field

from tunestream.events.base import Identifier, Sparse
from tunestream.events.registry import event_type

__all__ = ["CurriculumWindow"]


@event_type("tunestream.window.v1")
class CurriculumWindow(Sparse):
    """``training.batches``: one closed window, also one that made no batch.

    Every group of the window is named once: in ``selected``, or in ``left_out`` under the reason. ``reason``
    is ``empty_selection`` where no group was selected, and ``all_held_out`` where only held-out prompts were.
    """

    run_id: Identifier
    config_digest: str
    epoch: int = Field(ge=0, description="number of the window within (run, configuration)")
    batch_id: Identifier | None = Field(default=None, description="of the batch that it made, if any")
    reason: str | None = Field(default=None, description="why it made no batch")
    selected: list[Identifier] = Field(description="ids of the groups that train or are held out, in order")
    left_out: dict[str, list[Identifier]] = Field(
        default_factory=dict, description="ids of the other groups, by reason"
    )
    unnamed: dict[str, int] | None = Field(
        default=None,
        description="of the largest windows: groups whose ids the record has no room for, by reason, those "
        "that were selected as selected",
    )
    unscored: int = Field(default=0, ge=0, description="candidates of its turns that got no score")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="pairs that its turns did not make, by reason"
    )
