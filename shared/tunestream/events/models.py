"""Model versions and the run's pointer to the current one."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from tunestream.events.base import FiniteFloat, Identifier, Wire
from tunestream.events.registry import event_type

__all__ = [
    "Artifact",
    "CurrentModel",
    "Evaluation",
    "EvaluatorVerdict",
    "ItemScore",
    "JudgedRow",
    "ModelStatus",
    "ModelVersion",
]


class ModelStatus(StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    RETIRED = "retired"


class Artifact(Wire):
    """A directory of weights in the artifact store; ``sha256`` covers names and contents.

    Weights that stay with the backend that trained them have its URI and an empty ``sha256``.
    """

    uri: str
    sha256: str
    kind: Literal["adapter", "full"]

    @property
    def is_remote(self) -> bool:
        """Whether the weights stay with the backend that trained them."""
        return not self.sha256


class EvaluatorVerdict(Wire):
    """The verdict of an evaluator that the run adds: a paired comparison on the held-out rows."""

    name: Identifier
    items: int = Field(ge=0)
    candidate: FiniteFloat | None = Field(default=None, description="mean score of the new version")
    current: FiniteFloat | None = Field(default=None, description="of the version it was trained from")
    difference: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    min_margin: FiniteFloat = 0.0
    verdict: Literal["passed", "rejected", "unevaluated", "failed"]
    reason: str | None = Field(default=None, description="why it gave no verdict")


class Evaluation(Wire):
    """A paired comparison with the version that was current."""

    items: int = Field(ge=0)
    difference: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    verdict: Literal["promoted", "rejected", "unevaluated"]
    evaluators: list[EvaluatorVerdict] = Field(
        default_factory=list, description="beside the comparison of preferences, which the fields above are"
    )
    hold: str | None = Field(default=None, description="why nobody but a command may promote the version")


class ItemScore(Wire):
    """What an evaluator gives one item under the new version and under the current one."""

    candidate: FiniteFloat
    current: FiniteFloat


class JudgedRow(Wire):
    """How two policies rate a held-out row's chosen response against its rejected one.

    ``before`` and ``after`` are differences of log-probabilities, chosen minus rejected, in nats, of the
    version that was trained from and of the new one. ``prompt`` names the prompt.
    """

    prompt: Identifier
    before: FiniteFloat
    after: FiniteFloat


@event_type("tunestream.model_version.v1")
class ModelVersion(Wire):
    """One trained version of a run's model and where it came from."""

    run_id: Identifier
    version: Identifier
    number: int = Field(ge=1, description="parent links to the base model")
    base_model: str
    artifact: Artifact
    parent: str | None
    job_id: Identifier
    batch_id: Identifier
    config_digest: str
    status: ModelStatus
    evaluation: Evaluation | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    created: AwareDatetime
    rolled_back: str | None = Field(
        default=None, description="why its live scores had it rolled back; empty once somebody promotes it"
    )


@event_type("tunestream.current_model.v1")
class CurrentModel(Wire):
    """The version that agents should be served; ``generation`` grows by one with each change."""

    run_id: Identifier
    version: Identifier
    generation: int = Field(ge=1)
    previous: str | None = None
    cause: Literal["training", "promote", "rollback", "live_scores"] | None = Field(
        default=None, description="what moved the pointer: a finished job, a command, or bad live scores"
    )
