"""A trainer of one's own: a command that reads a file of rows and fills a folder with a model."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field

from tunestream.config.run.trainers import TrainerSection
from tunestream.events.models import Artifact
from tunestream.trainers import JobSpec, TaskAdapter, TrainerBackend, TrainingFailed, TrainingResult


class CommandConfig(TrainerSection):
    """In a run's file: ``trainer: {_type: command, command: [./train.sh]}``."""

    type: Literal["command"] = Field(default="command", alias="_type")
    command: list[str] = Field(min_length=1)


class CommandAdapter(TaskAdapter):
    """Runs the command for each job."""

    config: CommandConfig

    async def is_healthy(self) -> bool:
        """Look for the command."""
        return shutil.which(self.config.command[0]) is not None

    async def train(self, job: JobSpec) -> TrainingResult:
        """Write the rows, run the command, and keep what it wrote."""
        rows = job.train
        assert rows is not None
        with tempfile.TemporaryDirectory() as scratch:
            content = await asyncio.to_thread(self.store.get_bytes, rows.uri, rows.sha256)
            file, model = _prepare(Path(scratch), content)
            process = await asyncio.create_subprocess_exec(*self.config.command, file, model)
            try:
                if await process.wait() != 0:
                    raise TrainingFailed("command_failed", f"the command exited with {process.returncode}")
            finally:
                if process.returncode is None:  # the job was canceled
                    process.kill()
                    await process.wait()
            stored = await asyncio.to_thread(self.store.put_directory, model)
        weights = Artifact(uri=stored.uri, sha256=stored.sha256, kind="full")
        return TrainingResult(artifact=weights, rows_used=rows.rows, message="the command trained")


def _prepare(scratch: Path, content: bytes) -> tuple[Path, Path]:
    file, model = scratch / "rows.jsonl", scratch / "model"
    file.write_bytes(content)
    model.mkdir()
    return file, model


BACKEND = TrainerBackend(config=CommandConfig, adapter=CommandAdapter, local=True)
