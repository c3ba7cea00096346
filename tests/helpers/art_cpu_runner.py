"""A worker's program that trains with ART on the CPU those jobs whose ``init_args`` ask for it."""

from __future__ import annotations

from tunestream.trainers.art import runner
from tunestream.trainers.art.job import Job
from tunestream.trainers.art.train import open_way
from tunestream.trainers.art.way import Way
from tunestream.trainers.port import JobSpec
from tunestream.trainers.worker.channel import Channel
from tunestream.trainers.worker.protocol import Terminal

__all__ = ["run", "settle"]

settle = runner.settle


def run(spec: JobSpec, channel: Channel) -> Terminal:
    """Train one job."""
    return runner.run(spec, channel, _open)


def _open(job: Job) -> Way:
    if (job.config.backend.init_args or {}).get("device") != "cpu":
        return open_way(job)
    from tests.helpers.art_cpu import LocalOnCPU  # after the runner, which decides how ART is imported

    return LocalOnCPU(job)
