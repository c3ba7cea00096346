"""The worker's heavy half: importing it loads torch, TRL and all that jobs need."""

from __future__ import annotations

import gc
import sys
import traceback

import datasets

from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.trl.errors import explain
from tunestream.trainers.trl.train import train
from tunestream.trainers.worker.channel import JobCanceled, Line
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Terminal

__all__ = ["run", "settle"]


def settle() -> None:
    """Take what the imports made out of the garbage collector's sight.

    Every train() collects garbage, and would spend 0.3 s of it on them.
    """
    datasets.disable_progress_bars()
    gc.collect()
    gc.freeze()


def run(spec: JobSpec, line: Line) -> Terminal:
    """Train one job; after a failure the next one can still be run."""
    try:
        return Finished(job_id=spec.job_id, result=train(spec, line))
    except JobCanceled:
        return Canceled(job_id=spec.job_id)
    except TrainingFailed as failure:
        return _failed(spec, failure)
    except Exception as error:  # noqa: BLE001 - the fault is this job's; it is reported, and the log has it
        traceback.print_exc(file=sys.stderr)
        return _failed(spec, explain(error, spec))


def _failed(spec: JobSpec, failure: TrainingFailed) -> Failed:
    return Failed.of(failure, spec.job_id)
