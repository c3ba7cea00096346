"""How workers are run: ``TUNESTREAM_WORKER_*`` environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import Field

from tunestream.config.environment import EnvironmentSettings, variables

__all__ = ["ENVIRONMENT", "WorkerSettings"]

ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Two processes with spinning OpenMP threads on shared cores get nothing done.
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        # Sets are written to adapter_config.json in their order: the same adapter gets the same digest.
        "PYTHONHASHSEED": "0",
    }
)
"""Defaults of a worker's environment; variables of the owner's environment go first."""


class WorkerSettings(EnvironmentSettings):
    """How a worker process is started, and its deadlines in seconds."""

    model_config = variables("TUNESTREAM_WORKER_")

    start_timeout: float = Field(default=300.0, gt=0, description="for the imports")
    heartbeat_timeout: float = Field(default=10.0, gt=0, description="without a word from the owner, it ends")
    silence_timeout: float = Field(default=60.0, gt=0, description="without a word from it, it is killed")
    stall_timeout: float = Field(default=1800.0, gt=0, description="without a finished step, it is killed")
    close_timeout: float = Field(default=5.0, gt=0, description="to end by itself when it is closed")
    accelerate_config: Path | None = Field(
        default=None,
        description="file of `accelerate config`: the processes that train a job together",
    )
