"""The curriculum's section: the default strategy, its digest, and strategies of other distributions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.strategies import install_strategy
from tests.unit.config.examples import SMALLEST
from tunestream.config.files.errors import ConfigError
from tunestream.config.run.curriculum import CurriculumLearningConfig, ForeignCurriculumConfig
from tunestream.config.run.loading import parse_run
from tunestream.config.run.plugins import NotInstalled, load_strategy
from tunestream.config.run.run import RunConfig

KEYS = [
    "enabled",
    "initial_percentile",
    "increment_percentile",
    "expansion_interval",
    "min_reward_diff",
    "sort_ascending",
    "random_subsample",
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_strategy(tmp_path, "rotating", "tests.helpers.strategies:ROTATING")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(section: str) -> RunConfig:
    return parse_run(f"{SMALLEST}\ncurriculum_learning: {section}\n").config


def test_percentile_is_the_default_and_never_written() -> None:
    """So runs that were applied before there was a choice keep their digest."""
    plain, named = run("{enabled: true}"), run("{_type: percentile, enabled: true}")
    assert isinstance(named.curriculum_learning, CurriculumLearningConfig)
    assert plain.digest == named.digest
    for config in (plain, named, parse_run(SMALLEST).config):
        assert list(config.document()["curriculum_learning"]) == KEYS


@pytest.mark.usefixtures("site")
def test_a_strategy_of_another_distribution_is_chosen_by_its_type() -> None:
    config = run("{_type: rotating, enabled: true, groups: 3}")
    expected: dict[str, Any] = {"_type": "rotating", "enabled": True, "groups": 3}
    assert config.document()["curriculum_learning"] == expected
    again = RunConfig.from_record(config.to_record())
    assert (again.curriculum_learning, again.digest) == (config.curriculum_learning, config.digest)
    assert config.digest != run("{_type: rotating, enabled: true}").digest


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{_type: rotatin}", "_type 'rotatin' is unknown; choose one of 'percentile', 'rotating'"),
        ("{_type: rotating, group: 3}", "did you mean 'groups'?"),
        ("{_type: rotating, initial_percentile: 0.5}", "curriculum_learning.initial_percentile: unknown key"),
        ("{groups: 3}", "curriculum_learning.groups: unknown key"),
        ("3", "curriculum_learning: must be a section"),
    ],
)
def test_a_mistake_is_named(section: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(section)
    assert said in str(caught.value)


def test_a_section_whose_strategy_is_not_installed_here_is_kept_as_it_was_written(site: Path) -> None:
    config = run("{_type: rotating, groups: 3}")
    (site / "strategies_rotating-1.0.dist-info" / "entry_points.txt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site / "other"))  # what is installed is looked up again
        again = RunConfig.from_record(config.to_record())
        assert isinstance(again.curriculum_learning, ForeignCurriculumConfig)
        assert again.digest == config.digest
        with pytest.raises(ConfigError, match="_type 'rotating' is unknown"):
            run("{_type: rotating, groups: 3}")


@pytest.mark.usefixtures("site")
def test_a_record_with_a_section_that_the_installed_version_cannot_read_is_kept_as_it_was_written() -> None:
    record = run("{_type: rotating, groups: 3}").to_record()
    section = record.config["curriculum_learning"] | {"of_a_later_version": 1}
    later = record.model_copy(update={"config": record.config | {"curriculum_learning": section}})
    again = RunConfig.from_record(later)
    assert isinstance(again.curriculum_learning, ForeignCurriculumConfig)
    assert again.document()["curriculum_learning"] == section


def test_a_strategy_that_breaks_while_it_is_imported_does_not_stop_who_reads_the_run(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run("{_type: rotating}").to_record()
    (site / "strategies_rotating-1.0.dist-info" / "entry_points.txt").unlink()
    (tmp_path / "breaks.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(install_strategy(tmp_path, "rotating", "breaks:STRATEGY", "others"))
    assert isinstance(RunConfig.from_record(record).curriculum_learning, ForeignCurriculumConfig)
    with pytest.raises(ConfigError, match="cannot be loaded from breaks:STRATEGY: no licence"):
        run("{_type: rotating}")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("tests.helpers.nowhere:X", "cannot be loaded from tests.helpers.nowhere:X"),
        ("tests.helpers.strategies:NOBODY", "cannot be loaded"),
        ("tests.helpers.strategies:STRATEGIES", "without a CurriculumSection as its config"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.syspath_prepend(install_strategy(tmp_path, "odd", value))
    with pytest.raises(ConfigError, match=said):
        run("{_type: odd}")


def test_a_name_that_two_distributions_bring_is_an_error_that_names_both(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = install_strategy(site / "more", "rotating", "tests.helpers.strategies:ROTATING", "others")
    monkeypatch.syspath_prepend(other)
    with pytest.raises(NotInstalled, match="others-rotating and strategies-rotating"):
        load_strategy("rotating")
