"""What a worker reports of a job."""

from __future__ import annotations

import pytest

from tunestream.trainers import port
from tunestream.trainers.worker.protocol import REPORTS, Progress


def test_progress_is_the_ports_with_the_name_of_its_job() -> None:
    progress = Progress(job_id="job").after(phase="training", step=1, total=4, checkpoint=1, loss=0.5)
    assert isinstance(progress, port.Progress)
    assert (progress.phase, progress.percent, progress.metrics) == ("training", 25.0, {"loss": 0.5})
    assert REPORTS.validate_json(progress.to_json()) == progress


def test_the_percentage_never_falls_and_never_passes_100() -> None:
    progress = Progress(job_id="job")
    shares = []
    for step, total in [(0, 0), (1, 4), (2, 4), (2, 100), (90, 100), (120, 100)]:
        progress = progress.after(step=step, total=total)
        shares.append(progress.percent)
    assert shares == [0.0, 25.0, 50.0, 50.0, 90.0, 100.0]


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_a_metric_keeps_its_last_value(nothing: float | None) -> None:
    progress = Progress(job_id="job").after(loss=0.5).after(loss=nothing, reward_margin=2.0)
    assert progress.metrics == {"loss": 0.5, "reward_margin": 2.0}
    assert progress.after(loss=0.25).metrics["loss"] == 0.25
