"""A backend that does as it is told, and remembers what it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
from pydantic import Field

from tests.helpers.trainer_plugin import install_trainer
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.models import Artifact
from tunestream.events.training import DatasetFile
from tunestream.trainers import (
    JobSpec,
    Report,
    Stop,
    TrainerBackend,
    TrainingFailed,
    TrainingResult,
    stop_of,
)

__all__ = [
    "BACKEND",
    "Script",
    "ScriptedBackend",
    "ScriptedConfig",
    "fails",
    "finishes",
    "install",
    "spec_of",
]

Script = Callable[[JobSpec, Report], Awaitable[TrainingResult]]


class ScriptedConfig(TrainerSection):
    type: Literal["scripted"] = Field(default="scripted", alias="_type")
    local: bool = True


class ScriptedBackend:
    """Runs a job by ``script``, by default until it is stopped."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or _endless
        self.specs: list[JobSpec] = []
        self.stops: list[Stop] = []
        self.began = asyncio.Event()
        self.arrivals: asyncio.Queue[JobSpec] = asyncio.Queue()
        self.checks = 0
        self.closed = 0
        self.fault: Exception | None = None
        """What ``check`` raises."""

    async def check(self) -> None:
        self.checks += 1
        if self.fault is not None:
            raise self.fault

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        self.specs.append(spec)
        self.began.set()
        self.arrivals.put_nowait(spec)
        try:
            return await self.script(spec, report)
        except asyncio.CancelledError as error:
            self.stops.append(stop_of(error))
            raise

    async def close(self) -> None:
        self.closed += 1


async def _endless(_spec: JobSpec, _report: Report) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def finishes(name: str = "a") -> Script:
    """A script that makes weights of this name at once."""

    async def script(_spec: JobSpec, _report: Report) -> TrainingResult:
        artifact = Artifact(uri=f"weights/{name}", sha256=name, kind="adapter")
        return TrainingResult(artifact=artifact, rows_used=1, message=f"made {name}")

    return script


def fails(*codes: str, then: Script) -> Script:
    """A script that fails with one code after another, and then follows another script."""
    left = list(codes)

    async def script(spec: JobSpec, report: Report) -> TrainingResult:
        if left:
            raise TrainingFailed(left.pop(0), "as scripted")
        return await then(spec, report)

    return script


def spec_of(folder: Path, job_id: str = "job", **changes: Any) -> JobSpec:
    """A job of stored rows that nobody reads."""
    rows = DatasetFile(uri="rows", sha256="0", rows=1, size=1)
    values = {"run_id": "run", "job_id": job_id, "config": ScriptedConfig(), "artifacts": str(folder)}
    return JobSpec(**{**values, "train": rows, **changes})


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backend one that is found by its ``_type``."""
    for place in install_trainer(
        folder / "site-packages", name="scripted", value="tests.helpers.scripted_backend:BACKEND"
    ):
        monkeypatch.syspath_prepend(place)


BACKEND = TrainerBackend(
    config=ScriptedConfig,
    open=lambda _config, _artifacts: ScriptedBackend(),
    local=lambda config: config.local,
)
