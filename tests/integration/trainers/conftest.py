from __future__ import annotations

from tests.helpers.training import artifacts, tiny_model, trl_worker

__all__ = ["artifacts", "tiny_model", "trl_worker"]
