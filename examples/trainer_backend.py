"""A custom trainer: a command that reads a file of rows and fills a folder with a model."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.trainers import TrainerSection
from tunestream.events.models import Artifact
from tunestream.trainers import JobSpec, Progress, Report, TrainerBackend, TrainingFailed, TrainingResult


class CommandConfig(TrainerSection):
    """In a run's file: ``trainer: {_type: command, command: [./train.sh]}``."""

    type: Literal["command"] = Field(default="command", alias="_type")
    command: list[str] = Field(min_length=1)


class CommandBackend:
    """Runs the command for each job."""

    def __init__(self, config: CommandConfig, artifacts: str) -> None:
        self.command, self.store = config.command, ArtifactStore(artifacts)

    async def check(self) -> None:
        """Look for the command."""
        if shutil.which(self.command[0]) is None:
            raise TrainingFailed("unhealthy", f"there is no command {self.command[0]}")

    async def train(self, spec: JobSpec, report: Report) -> TrainingResult:
        """Write the rows, run the command, and keep what it wrote."""
        assert spec.train is not None
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as model:
            file = Path(scratch, "rows.jsonl")
            content = await asyncio.to_thread(self.store.get_bytes, spec.train.uri, spec.train.sha256)
            await asyncio.to_thread(file.write_bytes, content)
            report(Progress(message=f"{self.command[0]} runs"))
            process = await asyncio.create_subprocess_exec(*self.command, file, model)
            try:
                if await process.wait() != 0:
                    raise TrainingFailed("command_failed", f"the command exited with {process.returncode}")
            finally:
                if process.returncode is None:  # the job was stopped
                    process.kill()
                    await process.wait()
            stored = await asyncio.to_thread(self.store.put_directory, Path(model))
        weights = Artifact(uri=stored.uri, sha256=stored.sha256, kind="full")
        return TrainingResult(artifact=weights, rows_used=spec.train.rows, message="the command trained")

    async def close(self) -> None:
        """Keep nothing open."""


BACKEND = TrainerBackend(config=CommandConfig, open=CommandBackend, local=True)
