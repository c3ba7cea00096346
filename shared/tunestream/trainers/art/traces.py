"""What a job left behind: the step before it, and its name in the service.

ART cannot find a job by the name that tunestream gives it. So the step is written down before a job is
sent; a later attempt that finds a higher one takes it for the job's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from tunestream.artifacts import ArtifactStore
from tunestream.events.base import Wire
from tunestream.events.ids import stable_id
from tunestream.trainers.art.config import ARTBackendConfig
from tunestream.trainers.port import TrainingResult

__all__ = ["Trace", "Traces"]

_FOLDER: Final = "art"


class Trace(Wire):
    """One job of a model."""

    job_id: str
    before: int = Field(ge=0, description="the model's step when the job began")
    remote: str | None = Field(default=None, description="the service's job")
    running: bool = Field(default=False, description="the service may still train it")
    result: TrainingResult | None = None


class Traces:
    """The jobs of one model in the artifact store, a small file for each.

    Args:
        store: where.
        backend: whose model.
        name: the model's.
    """

    def __init__(self, store: ArtifactStore, backend: ARTBackendConfig, name: str) -> None:
        where = backend.url if backend.kind == "serverless" else backend.path
        model = stable_id("art", where, backend.entity or "", backend.project, name)
        self._files = store.files.at(f"{_FOLDER}/{model}")

    def find(self, job_id: str) -> Trace | None:
        """Return a job's trace, if it began."""
        name = f"{job_id}.json"
        if not self._files.exists(name):
            return None
        return Trace.model_validate_json(self._files.read(name))

    def keep(self, trace: Trace) -> Trace:
        """Write a trace; it is durable when this returns."""
        self._files.write(f"{trace.job_id}.json", trace.to_json())
        return trace

    def forget(self, job_id: str) -> None:
        """Remove a job's trace: it left nothing."""
        self._files.remove(f"{job_id}.json")

    def all(self) -> Iterator[Trace]:
        """Yield the traces of all jobs."""
        for name in self._files.children(""):
            trace = self.find(name.removesuffix(".json"))
            if trace is not None:
                yield trace
