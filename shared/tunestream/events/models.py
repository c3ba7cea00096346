"""Model versions and the run's pointer to the current one."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from tunestream.events.base import FiniteFloat, Identifier, Wire

__all__ = ["Artifact", "CurrentModel", "Evaluation", "JudgedRow", "ModelStatus", "ModelVersion"]


class ModelStatus(StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    RETIRED = "retired"


class Artifact(Wire):
    """A directory of weights in the artifact store; ``sha256`` covers names and contents."""

    uri: str
    sha256: str
    kind: Literal["adapter", "full"]


class Evaluation(Wire):
    """A paired comparison with the version that was current."""

    items: int = Field(ge=0)
    difference: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    verdict: Literal["promoted", "rejected", "unevaluated"]


class JudgedRow(Wire):
    """How two policies tell a held-out row's chosen response from its rejected one.

    ``before`` and ``after`` are differences of log-probabilities, chosen minus rejected, in nats, of the
    version that was trained from and of the new one. ``prompt`` names the prompt.
    """

    prompt: Identifier
    before: FiniteFloat
    after: FiniteFloat


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


class CurrentModel(Wire):
    """The version that agents should be served; ``generation`` grows by one with each change."""

    run_id: Identifier
    version: Identifier
    generation: int = Field(ge=1)
    previous: str | None = None
