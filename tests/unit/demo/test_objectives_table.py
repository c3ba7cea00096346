from __future__ import annotations

from typing import Any

import pytest

from tests.bench.demo_objectives import Case, render
from tunestream.demo.recipes import Quantization
from tunestream.events.training import Objective

MACHINE = {"date": "2026-01-01", "cores": 2, "system": "Linux", "python": "3.11"}


def results(objective: str, quantization: str | None) -> dict[str, Any]:
    return {
        "objective": objective,
        "quantization": quantization,
        "seed": 1,
        "gain": {"mean": 0.351, "low": 0.27, "high": 0.43},
        "versions": [
            {"optimal": {"mean": 0.507}, "illegal": 0},
            {"optimal": {"mean": 0.858}, "illegal": 3},
        ],
        "after": {"win": 0.9, "draw": 0.06, "loss": 0.04, "illegal": 0.0},
        "activity": {"seconds": 81.2},
    }


def test_a_case_names_objective_weights_and_seed() -> None:
    assert Case.parse("grpo:3") == Case(Objective.GRPO, None, 3)
    assert Case.parse("dpo+int8:0") == Case(Objective.DPO, Quantization.INT8, 0)


@pytest.mark.parametrize("text", ["dpo", "ppo:0", "dpo+fp8:0", "dpo:x", ""])
def test_what_is_no_case_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Case.parse(text)


def test_the_table_has_a_line_for_each_run_and_one_for_each_recipe() -> None:
    lines = render(MACHINE, [results("sft", None), results("dpo", "nf4"), results("dpo", None)]).splitlines()
    runs = [line for line in lines if "81 s" in line]
    assert runs == [
        "| `dpo` | LoRA | 1 | 51 86 | +35.1 (+27.0 to +43.0) | 3 | 90 / 6 / 4 / 0 | 81 s |",
        "| `dpo` | QLoRA, nf4 | 1 | 51 86 | +35.1 (+27.0 to +43.0) | 3 | 90 / 6 / 4 / 0 | 81 s |",
        "| `sft` | LoRA | 1 | 51 86 | +35.1 (+27.0 to +43.0) | 3 | 90 / 6 / 4 / 0 | 81 s |",
    ]
    recipes = [line for line in lines if "a pair in all" in line or "an episode each" in line]
    assert len(recipes) == len(Objective)
