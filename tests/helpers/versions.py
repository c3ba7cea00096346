"""Model versions for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from tunestream.events.models import Artifact, ModelStatus, ModelVersion

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def version(
    name: str,
    *,
    run_id: str = "run",
    number: int = 1,
    parent: str | None = None,
    created: datetime = NOW,
    job_id: str = "job",
) -> ModelVersion:
    """Return a promoted version whose weights are named for it."""
    return ModelVersion(
        run_id=run_id,
        version=name,
        number=number,
        base_model="base",
        artifact=Artifact(uri=f"artifact://trees/{name}", sha256=name, kind="adapter"),
        parent=parent,
        job_id=job_id,
        batch_id="batch",
        config_digest="d",
        status=ModelStatus.PROMOTED,
        created=created,
    )
