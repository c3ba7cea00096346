"""How events become trajectories: preference pairs of a turn, or groups of an example's episodes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, Tag

from tunestream.config.run.bases import TrajectoryBuilderConfig
from tunestream.config.run.durations import Duration
from tunestream.config.run.section import AddedIn, kind_or
from tunestream.events.runs import TURN_FORMAT

__all__ = [
    "ARTTrajectoryBuilderConfig",
    "DPOTrajectoryBuilderConfig",
    "TrajectoryBuilder",
]


class DPOTrajectoryBuilderConfig(TrajectoryBuilderConfig):
    """Preference pairs of one turn's scored candidates."""

    type: Literal["dpo_traj_builder"] = Field(default="dpo_traj_builder", alias="_type")
    ttc_step_name: str = Field(default="dpo_candidate_move", min_length=1)
    """Name of the TTC_END steps whose candidates count; native events need none."""
    exhaustive_pairs: bool = True
    """Pair every better candidate with every worse one; false pairs only the best with the worst."""
    min_score_diff: float = Field(default=0.0, ge=0.0)
    """The least difference of scores of a pair; equal scores make no pair, also at 0."""
    max_pairs_per_turn: int | None = Field(default=None, ge=1)
    """Keep the pairs with the largest differences; counts only with `exhaustive_pairs`. By default as many
    as a window takes (`batching.window_pairs`), all with `nat_parity`."""
    reward_from_score_diff: bool = True
    """A pair's reward is its difference of scores; false takes the chosen candidate's score."""
    require_multiple_candidates: bool = True
    """Count turns with a single candidate as skipped for that reason; they make no pair either way."""
    turn_timeout: Duration = timedelta(seconds=30)
    """Stream time without a new candidate after which a turn closes."""
    turn_memory: Duration = timedelta(minutes=10)
    """Stream time for which a closed turn's candidates are remembered, so that repeats are known."""
    max_turns_remembered: int = Field(default=100_000, ge=1)
    """Closed turns remembered whole at most, per partition; of older ones the name is remembered."""
    max_candidates_per_turn: int = Field(default=256, ge=2)
    """More candidates of one turn are refused as `turn_full`."""
    score_timeout: Annotated[Duration, AddedIn(TURN_FORMAT)] = timedelta(hours=24)
    """Stream time after which a turn that waits for scores closes with those that it has."""
    max_waiting_bytes: Annotated[int, AddedIn(TURN_FORMAT)] = Field(default=64 << 20, ge=1 << 20)
    """Bytes of turns that wait for scores, per partition; the oldest closes with the scores that it has."""
    wire: Annotated[Literal["compact", "expanded"], AddedIn(TURN_FORMAT)] = "compact"
    """How groups are written: each candidate once, or every pair spelt out."""
    nat_parity: bool = False
    """Pair exactly as the NeMo Agent Toolkit does: ties, identical responses and mixed prompts too."""


class ARTTrajectoryBuilderConfig(TrajectoryBuilderConfig):
    """Groups of finished episodes of one example."""

    type: Literal["openpipe_art_traj_builder"] = Field(default="openpipe_art_traj_builder", alias="_type")
    num_generations: int = Field(default=2, ge=1)
    """Episodes with which a group closes; later ones open the next group."""
    idle_timeout: Duration = timedelta(minutes=5)
    """Stream time without a new episode after which a group closes with what it has."""
    group_memory: Duration = timedelta(minutes=10)
    """Stream time for which a closed group's episodes are remembered, so that repeats are known."""
    max_groups_remembered: int = Field(default=100_000, ge=1)
    """Closed groups remembered whole at most, per partition; of older ones the name is remembered."""


TrajectoryBuilder = Annotated[
    Annotated[DPOTrajectoryBuilderConfig, Tag("dpo_traj_builder")]
    | Annotated[ARTTrajectoryBuilderConfig, Tag("openpipe_art_traj_builder")],
    kind_or("dpo_traj_builder"),
]
