"""The model versions and pointers that exist: the ``models`` topic."""

from __future__ import annotations

from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.streams.table import Table

__all__ = ["ModelDirectory"]


class ModelDirectory(Table[ModelVersion | CurrentModel]):
    """Every version and pointer by its key."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, "models", _entry)


def _entry(body: BaseModel) -> ModelVersion | CurrentModel:
    assert isinstance(body, ModelVersion | CurrentModel)
    return body
