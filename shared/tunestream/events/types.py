"""The registry of event types: which ``ce_type`` names which body.

A type ends in the major version of its schema. Within a major version fields are only added, and
only optional ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from tunestream.events.live import LiveRecord, LiveScores
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.events.nat import IntermediateStep
from tunestream.events.runs import RunPointer, RunRecord
from tunestream.events.training import (
    ControlCommand,
    ControlResult,
    JobRecord,
    TrainingBatch,
    TrainingJobStatus,
)
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import (
    CandidateStep,
    EpisodeStep,
    ExampleEnd,
    Tick,
    TTCCandidate,
    TTCEpisode,
    TTCExampleEnd,
    TTCTurnEnd,
    TurnEnd,
)

__all__ = ["EVENT_TYPES", "model_of", "type_of"]

EVENT_TYPES: Final[Mapping[str, type[BaseModel]]] = {
    "tunestream.ttc.candidate.v1": TTCCandidate,
    "tunestream.ttc.turn_end.v1": TTCTurnEnd,
    "tunestream.ttc.example_end.v1": TTCExampleEnd,
    "tunestream.ttc.episode.v1": TTCEpisode,
    "nat.intermediate_step.v1": IntermediateStep,
    "tunestream.candidate.v1": CandidateStep,
    "tunestream.turn_end.v1": TurnEnd,
    "tunestream.example_end.v1": ExampleEnd,
    "tunestream.episode.v1": EpisodeStep,
    "tunestream.tick.v1": Tick,
    "tunestream.trajectory_group.v1": TrajectoryGroup,
    "tunestream.trajectory_group_ref.v1": TrajectoryGroupRef,
    "tunestream.training_batch.v1": TrainingBatch,
    "tunestream.live_scores.v1": LiveScores,
    "tunestream.control_command.v1": ControlCommand,
    "tunestream.control_result.v1": ControlResult,
    "tunestream.job.v1": JobRecord,
    "tunestream.live_record.v1": LiveRecord,
    "tunestream.training_status.v1": TrainingJobStatus,
    "tunestream.model_version.v1": ModelVersion,
    "tunestream.current_model.v1": CurrentModel,
    "tunestream.run.v1": RunRecord,
    "tunestream.run_pointer.v1": RunPointer,
}

_TYPE_OF: Final[Mapping[type[BaseModel], str]] = {model: name for name, model in EVENT_TYPES.items()}


def type_of(body: BaseModel | type[BaseModel]) -> str:
    """Return the ``ce_type`` of a body or of its class.

    Raises:
        KeyError: when the class is not a wire model.
    """
    return _TYPE_OF[body if isinstance(body, type) else type(body)]


def model_of(ce_type: str) -> type[BaseModel] | None:
    """Return the body class of a ``ce_type``, or None when the type is unknown."""
    return EVENT_TYPES.get(ce_type)
