"""A worker's program without torch: the job's run says what becomes of the job."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from tunestream.events.models import Artifact
from tunestream.trainers.port import JobSpec, TrainingResult
from tunestream.trainers.worker.channel import JobCanceled, Line
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Terminal

__all__ = ["DIES", "ENDLESS", "FAILS", "PROGRAM", "STALLS", "STEPS", "run", "settle"]

DIES: Final = "dies"
ENDLESS: Final = "endless"
FAILS: Final = "fails"
STALLS: Final = "stalls"
STEPS: Final = 4
PROGRAM: Final = Program(runner="tests.helpers.job_runner")


def settle() -> None:
    """Print a line that belongs to no job."""
    print("settled")


def run(spec: JobSpec, line: Line) -> Terminal:
    """Take steps, and print each; every step is a checkpoint."""
    try:
        return _run(spec, line)
    except JobCanceled:
        return Canceled(job_id=spec.job_id)


def _run(spec: JobSpec, line: Line) -> Terminal:
    line.update(phase="training", total=STEPS)
    if spec.run_id == FAILS:
        return Failed(job_id=spec.job_id, code="refused", message="as asked")
    if spec.run_id == STALLS:
        threading.Event().wait()
    step = 0
    while step < STEPS or spec.run_id == ENDLESS:
        step += 1
        print(f"step {step}")
        line.update(step=step, checkpoint=step, loss=1.0 / step)
        if spec.run_id == DIES:
            os._exit(7)
        time.sleep(0.01 if spec.run_id == ENDLESS else 0.0)
    artifact = Artifact(uri="artifact://trees/none", sha256="none", kind="adapter")
    result = TrainingResult(artifact=artifact, rows_used=1, message=f"took {step} steps")
    return Finished(job_id=spec.job_id, result=result)
