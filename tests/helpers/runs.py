"""Runs for tests."""

from __future__ import annotations

from typing import Any

from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.streams import runs


def run_config(run_id: str, **sections: Any) -> RunConfig:
    """Return a run's configuration; the sections override a small default."""
    trainer = {"_type": "trl", "model": {"hf_model_ckpt": "models/none", "quantize": False}}
    return RunConfig.model_validate({"run_id": run_id, "trainer": trainer, **sections})


async def apply_run(settings: KafkaSettings, run_id: str, **sections: Any) -> RunConfig:
    """Apply a run's configuration."""
    config = run_config(run_id, **sections)
    await runs.apply_run(settings, config, source="/tests")
    return config
