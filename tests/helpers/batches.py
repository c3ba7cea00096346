"""Batches for tests of what becomes of them."""

from __future__ import annotations

from tunestream.events.training import CurriculumState, DatasetFile, Objective, TrainingBatch


def batch(run: str = "run", number: int = 0, policy_versions: list[str] | None = None) -> TrainingBatch:
    """Return a batch of one row."""
    return TrainingBatch(
        run_id=run,
        batch_id=f"batch-{number}",
        config_digest="digest",
        objective=Objective.DPO,
        epoch=number,
        train=DatasetFile(uri="artifact://objects/a", sha256="a", rows=1, size=1),
        validation=None,
        groups=1,
        curriculum=CurriculumState(current_percentile=1.0),
        policy_versions=policy_versions or [],
    )
