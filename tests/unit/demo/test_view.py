from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tunestream.demo.agents import Arena, Throttle
from tunestream.demo.observer import Flow, Observations
from tunestream.demo.policy_client import Policy
from tunestream.demo.publishing import publishing_of
from tunestream.demo.recipes import RECIPES
from tunestream.demo.view import Screen, render_screen
from tunestream.events.training import Objective, TrainingJobStatus, TrainingStatusEnum


def test_the_rate_is_that_of_the_last_seconds() -> None:
    flow = Flow()
    assert flow.rate(100.0) == 0.0
    for _ in range(50):
        flow.add()
    assert flow.rate(101.0) == pytest.approx(50)
    assert flow.rate(106.1) == pytest.approx(0.0)


def test_the_screen_shows_flow_agents_jobs_and_strength() -> None:
    unused: Any = None
    policy, throttle = Policy("player@v1", "v1"), Throttle(768, published=400)
    recipe = RECIPES[Objective.GRPO]
    arena = Arena("run", unused, policy, unused, publishing_of(recipe), throttle, turns=12)
    status = TrainingJobStatus.model_validate(
        {"run_id": "run", "backend": "trl", "status": TrainingStatusEnum.RUNNING, "progress": 40.0,
         "job_id": "j", "sequence": 1, "time": "2026-01-01T00:00:00Z"}
    )  # fmt: skip
    seen = Observations(groups=9, jobs={"j": status})
    output = StringIO()
    console = Console(file=output, width=110)
    console.print(
        render_screen(Screen(8, recipe, seen, arena, activity="agents play"), now=1.0, elapsed=61.0)
    )
    text = output.getvalue()
    for word in (
        "trajectories",
        "player@v1",
        "episodes waiting for training",
        "400 of 768",
        "grpo",
        "running",
        "jobs (1 of 8)",
        "61 s",
    ):
        assert word in text
    assert next(line for line in text.splitlines() if "open turns" in line).split()[-2] == "3"
