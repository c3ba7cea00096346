"""A worker's program that imports torch alone: every process of a team adds its part to a sum."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from tunestream.events.models import Artifact
from tunestream.trainers.port import JobSpec, TrainingFailed, TrainingResult
from tunestream.trainers.worker.channel import JobCanceled, Line
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Terminal

ENDLESS = "endless"
REFUSED = "refused"


def settle() -> None:
    """Nothing is to be prepared."""


def run(spec: JobSpec, line: Line) -> Terminal:
    """Sum up the numbers of the processes from 1; an endless job steps until it is canceled."""
    try:
        return _run(spec, line)
    except JobCanceled:
        return Canceled(job_id=spec.job_id)
    except TrainingFailed as failure:
        return Failed.of(failure, spec.job_id)


def _run(spec: JobSpec, line: Line) -> Terminal:
    Path(line.scratch, f"pid-{os.getpid()}").touch()
    part = torch.tensor(1.0 if line.leads else 2.0)
    line.update(phase="training", total=10**9)
    if spec.run_id == REFUSED and not line.leads:
        raise TrainingFailed("refused", "the second process fails alone")
    torch.distributed.all_reduce(part)
    step = 0
    while spec.run_id == ENDLESS:
        step += 1
        line.update(step=step)
        time.sleep(0.01)
    result = TrainingResult(
        artifact=Artifact(uri="artifact://trees/none", sha256="none", kind="adapter"),
        metrics={"sum": float(part)},
        rows_used=1,
        rows_skipped={},
        message=line.share("the leader's words" if line.leads else "others' words"),
    )
    return Finished(job_id=spec.job_id, result=result)
