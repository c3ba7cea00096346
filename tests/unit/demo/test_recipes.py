from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tunestream.config.run.run import RunConfig
from tunestream.demo.recipes import RECIPES, Quantization
from tunestream.demo.run_config import run_document
from tunestream.events.training import Objective
from tunestream.trainers.trl.config import TRLTrainerConfig


def configuration(objective: Objective, quantize: Quantization | None) -> RunConfig:
    document = run_document(
        "run", Path("/base"), recipe=RECIPES[objective], policy_url="http://p", seed=7, quantize=quantize
    )
    return RunConfig.model_validate(document)


@pytest.mark.parametrize(("objective", "quantize"), list(product(Objective, [None, *Quantization])))
def test_every_objective_makes_a_run_with_and_without_quantised_weights(
    objective: Objective, quantize: Quantization | None
) -> None:
    config = configuration(objective, quantize)
    assert config.objective is objective
    assert config.batching.window_pairs == RECIPES[objective].window
    assert isinstance(config.trainer, TRLTrainerConfig)
    assert config.trainer.training.length_limit(objective)[1] == 64
    bits = config.trainer.model.quantization
    assert (bits is None) == (quantize is None)
    if bits is not None:
        assert bits.load_in_8bit is (quantize is Quantization.INT8)
        assert bits.bnb_4bit_quant_type == "nf4"


def test_agents_publish_episodes_where_groups_of_episodes_are_learnt_from() -> None:
    assert {name for name, recipe in RECIPES.items() if recipe.plays_episodes} == {Objective.GRPO}


def test_windows_hold_whole_groups_of_episodes() -> None:
    """Otherwise the trajectories that a round waits for would not be those of its window."""
    recipe = RECIPES[Objective.GRPO]
    assert recipe.builder["num_generations"] == recipe.answers
    assert recipe.window % recipe.answers == 0
