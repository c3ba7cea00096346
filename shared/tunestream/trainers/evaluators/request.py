"""What an evaluator is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from tunestream.artifacts import ArtifactStore, read_rows
from tunestream.events.base import Foreign, Identifier, Metadata, Wire
from tunestream.events.dataset import DatasetRow
from tunestream.events.models import Artifact, ItemScore
from tunestream.events.training import DatasetFile

__all__ = [
    "EvaluationRequest",
    "EvaluationResponse",
    "EvaluationTask",
    "EvaluatorFailed",
    "Policy",
    "PolicyRef",
    "check_count",
    "held_out_items",
]


class EvaluatorFailed(Exception):
    """An evaluator gave no scores; the message has the reason, and what to do about it."""


class PolicyRef(Wire):
    """A version and where its weights are."""

    version: Identifier
    uri: str = Field(description="a folder of the artifact store, or a name of the backend that trained it")
    url: str = Field(description="the same, for readers without the store")
    sha256: str = Field(description="of the folder; empty when the weights stay with their backend")
    kind: Literal["adapter", "full"]

    @classmethod
    def of(cls, version: str, artifact: Artifact, store: ArtifactStore) -> Self:
        """Describe a version."""
        url = artifact.uri if artifact.is_remote else store.locate(artifact.uri)
        return cls(version=version, url=url, **artifact.model_dump())


class EvaluationRequest(Wire):
    """The body of a POST to an HTTP evaluator."""

    run_id: Identifier
    job_id: Identifier
    evaluator: Identifier
    base_model: str
    candidate: PolicyRef
    current: PolicyRef | None = Field(description="the version trained from; null for the base model")
    options: Metadata
    items: list[DatasetRow] = Field(description="held-out rows of earlier batches")


class EvaluationResponse(Foreign):
    """Its answer: one score of each version for each item, in the order of the items; more is better."""

    scores: list[ItemScore]


@dataclass(frozen=True, slots=True)
class Policy:
    """A version on this machine; ``folder`` has a PEFT adapter or, of the kind ``full``, a whole model."""

    version: str
    folder: Path
    kind: Literal["adapter", "full"]


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """What an evaluator's function is given.

    Attributes:
        run_id: the run.
        base_model: what the trainer calls it: a folder, or a name on a model hub.
        candidate: the new version.
        current: the version that it was trained from; None for the base model itself.
        items: held-out rows of earlier batches, at least ``evaluation.min_items``.
        options: of the evaluator's section in the run's configuration.
    """

    run_id: str
    base_model: str
    candidate: Policy
    current: Policy | None
    items: Sequence[DatasetRow]
    options: dict[str, Any]


def held_out_items(store: ArtifactStore, files: Iterable[DatasetFile], most: int) -> list[DatasetRow]:
    """Return the first ``most`` rows of files; lines that are no rows are left out."""
    items: list[DatasetRow] = []
    for file in files:
        if len(items) >= most:
            break
        items += [row for row in read_rows(store.get_bytes(file.uri, file.sha256)) if row is not None]
    return items[:most]


def check_count(scores: list[ItemScore], request: EvaluationRequest) -> list[ItemScore]:
    """Return the scores.

    Raises:
        EvaluatorFailed: when they are not as many as the items.
    """
    if len(scores) != len(request.items):
        raise EvaluatorFailed(
            f"it gave {len(scores)} scores for {len(request.items)} items; give one for each"
        )
    return scores
