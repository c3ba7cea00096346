"""Which arm is best."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.experiments import add_arm, experiment, failed_arm
from tunestream.experiments.choosing import NoBest, best_arm, metrics_of
from tunestream.experiments.store import ExperimentStore


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path)


def test_a_metric_with_loss_in_its_name_is_better_when_smaller(store: ExperimentStore) -> None:
    arms = [
        add_arm(store, at, {"lora.r": at}, exact=0.5, curve=(3.0, loss))
        for at, loss in enumerate((0.9, 0.2, 0.4))
    ]
    study = experiment(arms)
    assert best_arm(store, study, metric="train_loss").arm.name == "arm-001"
    assert best_arm(store, study, metric="train_loss", minimise=False).arm.name == "arm-000"
    assert best_arm(store, experiment(arms, metric="train_loss")).value == 0.2


def test_the_best_seed_of_the_best_settings_is_taken(store: ExperimentStore) -> None:
    values = [("a", 1, 0.2), ("a", 2, 0.9), ("b", 1, 0.6), ("b", 2, 0.7)]
    arms = [
        add_arm(store, at, {"x": name, "seed": seed}, exact=exact)
        for at, (name, seed, exact) in enumerate(values)
    ]
    best = best_arm(store, experiment(arms))
    assert (best.arm.settings, best.seeds) == ({"x": "b", "seed": 2}, 2)
    assert best.value == pytest.approx(0.65)


def test_an_arm_without_the_metric_is_passed_over(store: ExperimentStore) -> None:
    arms = [failed_arm(0, {"x": 1}, "no"), add_arm(store, 1, {"x": 2}, exact=0.1)]
    assert best_arm(store, experiment(arms)).arm.name == "arm-001"
    assert metrics_of(store, arms[0]) == {}


def test_without_a_complete_arm_there_is_no_best(store: ExperimentStore) -> None:
    with pytest.raises(NoBest, match="no arm is complete"):
        best_arm(store, experiment([failed_arm(0, {}, "no")]))


def test_the_metrics_that_there_are_are_named(store: ExperimentStore) -> None:
    with pytest.raises(NoBest, match="there are: exact_match, rouge_score, rows, summary_length, train_loss"):
        best_arm(store, experiment([add_arm(store, 0, {}, exact=0.5)]), metric="bleu")
