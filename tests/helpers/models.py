"""The process that holds models, one for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunestream.experiments.models import ModelWorker

__all__ = ["model_worker"]

_WORKER = ModelWorker()  # shared by all modules that import the fixture


@pytest.fixture(scope="session")
def model_worker() -> Iterator[ModelWorker]:
    yield _WORKER
    _WORKER.close()
