"""The owner's side of the process that loads ART."""

from __future__ import annotations

import sys
from typing import Final

from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.worker.handle import Program, WorkerHandle

__all__ = ["ARTWorkerHandle"]

_ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else importing ART asks GitHub for prices
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "WEAVE_DISABLED": "true",
}


class ARTWorkerHandle(WorkerHandle):
    """A worker process of its own: importing ART changes transformers for the whole process.

    Args:
        settings: deadlines, and the interpreter that has ART; by default from the environment.
        runner: the module that trains a job.
    """

    def __init__(
        self, settings: ARTSettings | None = None, *, runner: str = "tunestream.trainers.art.runner"
    ) -> None:
        settings = settings or ARTSettings()
        program = Program(
            extra="art",
            runner=runner,
            needs=("art", "openai", "wandb"),
            python=str(settings.python or sys.executable),
            environment={**_ENVIRONMENT, **settings.environment()},
        )
        super().__init__(settings, program=program)
