"""What a status shows of a job that trains."""

from __future__ import annotations

from tunestream.trainers import Checkpoint, Progress
from tunestream.trainers.standing import Standing


def test_phases_are_shown_with_steps_metrics_and_the_latest_checkpoint() -> None:
    standing = Standing()
    standing.take(Progress(phase="loading"))
    assert standing.metadata() == {"phase": "loading", "step": 0, "total": 0, "checkpoint": 0}
    standing.take(Checkpoint(step=5))
    standing.take(Progress(percent=30.0, phase="training", step=6, total=20, metrics={"loss": 0.5}))
    assert standing.metadata() == {"phase": "training", "step": 6, "total": 20, "loss": 0.5, "checkpoint": 5}
    assert standing.progress.text == "training, step 6 of 20"


def test_a_backend_without_phases_shows_its_own_words() -> None:
    standing = Standing()
    standing.take(Progress(percent=30.0, message="Status: running"))
    assert (standing.progress.text, standing.metadata()) == ("Status: running", {})
    assert Progress().text == "it trains"
