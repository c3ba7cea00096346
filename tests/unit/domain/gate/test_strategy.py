"""A curriculum strategy that another distribution brings, and what every strategy has to keep to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.helpers.strategies import Rotating, install_strategy
from tests.unit.domain.gate.test_core import WINDOW, Gate, configuration, group, names
from tunestream.config.run.curriculum import CurriculumSection, strategy_section
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Refused
from tunestream.domain.gate.closed_window import ClosedWindow
from tunestream.domain.gate.selection import Epoch, Selection
from tunestream.domain.gate.strategy import MAX_STATE_BYTES, StrategyFailed, initial_state, run_epoch

EPOCH = Epoch(number=0, rewards=[[1.0], [2.0], [3.0]], sizes=[1, 1, 1], rng=Random(0))


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rotating", "broken"):
        path = install_strategy(tmp_path, name, f"tests.helpers.strategies:{name.upper()}")
    monkeypatch.syspath_prepend(path)


def section(kind: str, **settings: Any) -> CurriculumSection:
    return strategy_section(kind).model_validate({"_type": kind, "enabled": True, **settings})


def run(**settings: Any) -> Selection:
    config = section("broken", **settings)
    return run_epoch(EPOCH, initial_state(config), config)


def test_a_strategy_selects_and_remembers() -> None:
    config = section("rotating", groups=2)
    first = run_epoch(EPOCH, initial_state(config), config)
    second = run_epoch(EPOCH, first.state, config)
    assert (first.groups, second.groups) == ([0, 1], [2, 0])
    assert second.state == {"next": 4}
    assert first.dropped == {"strategy": 1}


def test_a_curriculum_that_is_not_enabled_lets_everything_through_and_keeps_its_state() -> None:
    config = section("rotating", enabled=False)
    selection = run_epoch(EPOCH, {"next": 1}, config)
    assert (selection.groups, selection.state, selection.dropped) == ([0, 1, 2], {"next": 1}, {})


@pytest.mark.parametrize("chosen", [[3], [-1], [0, 0]])
def test_positions_that_are_not_there_are_an_error(chosen: list[int]) -> None:
    with pytest.raises(StrategyFailed, match=r"strategy 'broken' selected .* of 3 groups"):
        run(chosen=chosen)


def test_a_state_is_bounded_and_json() -> None:
    overhead = len(json.dumps({"remembered": ""}, separators=(",", ":")))
    assert run(characters=MAX_STATE_BYTES - overhead).groups == [0]
    with pytest.raises(StrategyFailed, match=r"state of 65,537 bytes; at most 65,536"):
        run(characters=MAX_STATE_BYTES - overhead + 1)
    with pytest.raises(StrategyFailed, match="no JSON"):
        run(characters=-1)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"chosen": [0, 1], "within": [0]}, "drew trajectories of 2 groups"),
        ({"within": [1]}, r"selected \[1\] of 1 trajectories"),
        ({"within": [0, 0]}, r"selected \[0, 0\] of 1 trajectories"),
        ({"dropped": {"hard": 3}}, "counts {'hard': 3} of 2 groups"),
        ({"dropped": {"hard": -1}}, "counts {'hard': -1} of 2 groups"),
    ],
)
def test_trajectories_and_counts_that_are_not_there_are_an_error(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(StrategyFailed, match=problem):
        run(**settings)


def test_a_state_is_what_it_is_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rotating, "select", lambda *_: Selection([0], {"seen": (1, 2)}))
    config = section("rotating")
    assert run_epoch(EPOCH, initial_state(config), config).state == {"seen": [1, 2]}
    monkeypatch.setattr(Rotating, "select", lambda *_: Selection([0], [1]))  # type: ignore[arg-type]
    with pytest.raises(StrategyFailed, match="returned a list as its state"):
        run_epoch(EPOCH, initial_state(config), config)


def windows(gate: Gate, *, restarts: bool) -> list[ClosedWindow]:
    found = []
    for epoch in range(4):
        for at in range(WINDOW):
            found += gate.send(group(f"{epoch}.{at}", 1), 1)
            if restarts:
                gate.restart(at)
    return found


def rotating(**settings: Any) -> RunConfig:
    return configuration(curriculum_learning=section("rotating", **settings))


def test_the_gate_keeps_a_strategys_state_across_restarts() -> None:
    gate = Gate(rotating(groups=4))
    found = windows(gate, restarts=True)
    assert [names(window) for window in found] == [
        ["0.0", "0.1", "0.2", "0.3"],
        ["1.4", "1.5", "1.0", "1.1"],
        ["2.2", "2.3", "2.4", "2.5"],
        ["3.0", "3.1", "3.2", "3.3"],
    ]
    assert found == windows(Gate(rotating(groups=4)), restarts=False)
    assert gate.log[b"strategy/r/d"] == b'{"next":16}'


def test_a_batch_has_what_the_selection_amounts_to_in_the_references_fields() -> None:
    window = windows(Gate(rotating(groups=4)), restarts=False)[1]
    curriculum = window.curriculum
    assert (curriculum.current_percentile, curriculum.total_groups) == (4 / WINDOW, WINDOW)
    assert curriculum.included_groups == [0, 1, 4, 5]
    assert (len(window.selected), window.dropped) == (4, {"strategy": 2})


def test_the_digest_of_a_strategys_state_tells_epochs_apart_and_percentile_has_none() -> None:
    found = windows(Gate(rotating(groups=WINDOW)), restarts=False)
    assert len({window.state_digest for window in found}) == len(found)
    assert {window.state_digest for window in windows(Gate(configuration()), restarts=False)} == {None}
    assert b"strategy/r/d" not in Gate(configuration()).log


def test_a_strategy_that_fails_is_a_fault_of_ours_and_no_refusal() -> None:
    gate = Gate(configuration(curriculum_learning=section("broken", chosen=[99])))
    with pytest.raises(StrategyFailed, match="selected"):
        windows(gate, restarts=False)


def test_a_group_of_a_run_whose_strategy_is_not_installed_here_is_refused_and_can_be_replayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = rotating().to_record()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    gate = Gate(RunConfig.from_record(record))
    with pytest.raises(Refused, match="_type 'rotating' is unknown") as refused:
        gate.send(group("g", 1), 1)
    assert refused.value.code == "unknown_strategy"
    assert gate.log == {}


def test_a_group_of_a_run_whose_section_the_installed_version_cannot_read_is_refused() -> None:
    record = rotating().to_record()
    section = record.config["curriculum_learning"] | {"of_a_later_version": 1}
    later = record.model_copy(update={"config": record.config | {"curriculum_learning": section}})
    gate = Gate(RunConfig.from_record(later))
    with pytest.raises(Refused, match="version that cannot read its section") as refused:
        gate.send(group("g", 1), 1)
    assert refused.value.code == "unknown_strategy"
