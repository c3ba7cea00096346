"""The process that holds models, one for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunestream.experiments.models import ModelWorker
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["model_worker"]

_WORKER = ModelWorker(WorkerSettings(start_timeout=900))  # shared by all modules that import the fixture


@pytest.fixture(scope="session")
def model_worker() -> Iterator[ModelWorker]:
    yield _WORKER
    _WORKER.close()
