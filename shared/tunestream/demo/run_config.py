"""The demo's run: the recipe as any run's configuration is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tunestream.demo.recipes import Quantization, Recipe

__all__ = ["BASE_NAME", "run_document"]

BASE_NAME: Final = "player"
# Earlier versions that are still asked: turns run on them, and each is measured once.
SERVED_BESIDE: Final = 4
_CURRICULUM: Final = {"initial_percentile": 0.6, "increment_percentile": 0.2, "expansion_interval": 2}


def run_document(
    run_id: str,
    base_model: Path,
    *,
    recipe: Recipe,
    policy_url: str,
    seed: int,
    quantize: Quantization | None = None,
    curriculum: bool = False,
) -> dict[str, Any]:
    """Return the run's configuration in the native shape.

    Args:
        run_id: a new one for each demo, so that two on one broker never meet.
        base_model: folder of the base model.
        recipe: of the objective.
        policy_url: of the policy server, which loads promoted versions.
        seed: of the optimisation and the subsampling.
        quantize: the base model's weights; the adapter stays as it is.
        curriculum: begin with the best 60 % of each window's groups instead of all.
    """
    return {
        "run_id": run_id,
        "target_model": BASE_NAME,
        "reward_function": {"name": "minimax"},
        "trajectory_builder": dict(recipe.builder),
        "curriculum_learning": {"enabled": curriculum, **_CURRICULUM},
        "batching": {
            "window_pairs": recipe.window,
            # A round is a full window: on a slow machine one may take minutes.
            "max_wait": "10m",
            "flush_after": "2m",
            "validation_fraction": 0.1,
            "seed": seed,
        },
        "trainer": _trainer(base_model, recipe, seed, quantize),
        "serving": [{"url": policy_url, "keep_previous": SERVED_BESIDE}],
    }


def _trainer(base_model: Path, recipe: Recipe, seed: int, quantize: Quantization | None) -> dict[str, Any]:
    model: dict[str, Any] = {"hf_model_ckpt": str(base_model), "quantize": quantize is not None}
    if quantize is not None:
        model["bitsandbytes"] = quantize.section
    training_args = {
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 64,
        "max_grad_norm": 1.0,
        "warmup_ratio": 0.0,
        "gradient_checkpointing": False,
        "seed": seed,
    }
    return {
        "_type": "trl",
        "objective": recipe.objective.value,
        "max_policy_lag": 4,
        "model": model,
        "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        "training": {"training_args": training_args, **recipe.training},
    }
