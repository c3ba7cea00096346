"""The demo's run: the recipe as any run's configuration is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

__all__ = ["BASE_NAME", "WINDOW_PAIRS", "run_document"]

BASE_NAME: Final = "player"
WINDOW_PAIRS: Final = 384


def run_document(run_id: str, base_model: Path, *, seed: int, curriculum: bool) -> dict[str, Any]:
    """Return the run's configuration in the native shape.

    Args:
        run_id: a new one for each demo, so that two on one broker never meet.
        base_model: folder of the base model.
        seed: of the optimisation and the subsampling.
        curriculum: begin with the best 60 % of each window's groups instead of all.
    """
    training_args = {
        "learning_rate": 3e-3,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 64,
        "max_grad_norm": 1.0,
        "warmup_ratio": 0.0,
        "gradient_checkpointing": False,
        "seed": seed,
    }
    return {
        "run_id": run_id,
        "target_model": BASE_NAME,
        "reward_function": {"name": "minimax"},
        "trajectory_builder": {
            "_type": "dpo_traj_builder",
            "exhaustive_pairs": False,
            "min_score_diff": 0.01,
        },
        "curriculum_learning": {
            "enabled": curriculum,
            "initial_percentile": 0.6,
            "increment_percentile": 0.2,
            "expansion_interval": 2,
        },
        "batching": {
            "window_pairs": WINDOW_PAIRS,
            "max_wait": "60s",
            "validation_fraction": 0.1,
            "seed": seed,
        },
        "trainer": {
            "_type": "trl",
            "max_policy_lag": 4,
            "model": {"hf_model_ckpt": str(base_model), "quantize": False},
            "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
            "training": {"training_args": training_args, "dpo_args": {"beta": 0.5, "max_length": 64}},
        },
    }
