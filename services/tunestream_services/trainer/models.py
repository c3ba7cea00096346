"""The model versions and pointers that exist: the ``models`` topic."""

from __future__ import annotations

from tunestream.config.settings import KafkaSettings
from tunestream.events.models import CurrentModel, ModelVersion
from tunestream.events.types import type_of
from tunestream.streams.table import Table

__all__ = ["ModelDirectory"]


class ModelDirectory(Table[ModelVersion | CurrentModel]):
    """Every version and pointer by its key."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, "models", _decode)


def _decode(key: bytes, value: bytes, headers: dict[str, bytes]) -> ModelVersion | CurrentModel | None:
    del key
    kind = headers.get("ce_type", b"").decode()
    if kind == type_of(ModelVersion):
        return ModelVersion.model_validate_json(value)
    if kind == type_of(CurrentModel):
        return CurrentModel.model_validate_json(value)
    return None
