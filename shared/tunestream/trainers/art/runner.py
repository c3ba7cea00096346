"""The worker's heavy half: importing it loads ART."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tunestream.trainers.art.errors import failure_of
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.port import JobSpec, TrainingFailed
from tunestream.trainers.worker.channel import Channel, JobCanceled
from tunestream.trainers.worker.protocol import Canceled, Failed, Finished, Terminal

__all__ = ["run", "settle"]


@contextmanager
def _without_transformers() -> Iterator[None]:
    """Import ART as if transformers were not installed.

    Else it gives the masks of transformers, for the whole process, a signature that newer ones have not.
    """
    loaded = sys.modules.pop("transformers", None)
    sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["transformers"]
        if loaded is not None:
            sys.modules["transformers"] = loaded


with _without_transformers():
    from tunestream.trainers.art.job import Job
    from tunestream.trainers.art.train import OpenWay, open_way, train

_LOOP = asyncio.new_event_loop()


def settle() -> None:
    """Keep ART from writing runs to W&B on its own: statuses go another way.

    Importing it reads ``.env`` files, which may name a key that nobody gave to us.
    """
    os.environ.pop("WANDB_API_KEY", None)


def run(spec: JobSpec, channel: Channel, opened_by: OpenWay = open_way) -> Terminal:
    """Train one job; after a failure the next one can still be run."""
    try:
        result = _LOOP.run_until_complete(train(Job(spec, channel, ARTSettings()), opened_by))
    except JobCanceled:
        return Canceled(job_id=spec.job_id)
    except TrainingFailed as failure:
        return _failed(spec, failure)
    except Exception as error:  # noqa: BLE001 - the fault is this job's; it is reported, and the log has it
        traceback.print_exc(file=sys.stderr)
        return _failed(spec, failure_of(error))
    return Finished(job_id=spec.job_id, result=result)


def _failed(spec: JobSpec, failure: TrainingFailed) -> Failed:
    return Failed.of(failure, spec.job_id)
