"""Reads an experiment's file: one configuration, or the arms of a grid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tunestream.config.experiment.experiment import AblationConfig, Config
from tunestream.config.experiment.grid import Axis, find_axes, points
from tunestream.config.files.document import Document, Keys, dotted
from tunestream.config.files.errors import ConfigError, Problem
from tunestream.config.files.validation import validated
from tunestream.config.files.yaml_reader import read_document, read_text

__all__ = ["ArmConfig", "LoadedExperiment", "load_experiment", "parse_experiment"]

_SEED: Keys = ("seed",)


@dataclass(frozen=True, slots=True)
class ArmConfig:
    """One point of the grid: the values that are swept, by dotted path, and the whole configuration."""

    settings: dict[str, Any]
    config: Config


@dataclass(frozen=True, slots=True)
class LoadedExperiment:
    """The content of an experiment's file.

    Attributes:
        name: of the study, or the file's name without its ending.
        text: the file.
        arms: in the order of the grid; a single one without settings when there are no lists.
        notes: what people should know.
    """

    name: str
    source: str
    text: str
    arms: tuple[ArmConfig, ...]
    notes: tuple[str, ...]

    @property
    def save_dir(self) -> Path:
        """The folder of everything that the experiment makes."""
        return Path(self.arms[0].config.save_dir)

    @property
    def ablation(self) -> AblationConfig:
        """The study's section."""
        return self.arms[0].config.ablation

    @property
    def id(self) -> str:
        """The first 24 hexadecimal digits of the sha256 of the arms' documents, without ``save_dir``."""
        documents = [arm.config.document() for arm in self.arms]
        arms = [{key: value for key, value in each.items() if key != "save_dir"} for each in documents]
        text = json.dumps([self.name, arms], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(text.encode()).hexdigest()[:24]


def load_experiment(path: Path) -> LoadedExperiment:
    """Read an experiment's file.

    Raises:
        ConfigError: with every problem that was found.
    """
    document = read_document(path)
    return _load(document, path.read_text(encoding="utf-8"), path.stem)


def parse_experiment(text: str, *, name: str = "experiment") -> LoadedExperiment:
    """Read an experiment from YAML text; ``name`` stands for the file.

    Raises:
        ConfigError: with every problem that was found.
    """
    return _load(read_text(text, name=name), text, Path(name).stem)


def _load(document: Document, text: str, stem: str) -> LoadedExperiment:
    axes = list(_axes(document))
    arms: list[ArmConfig] = []
    problems: dict[Problem, None] = {}
    for settings, arm in points(document, axes):
        try:
            config = validated(Config, arm)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
        else:
            arms.append(ArmConfig({dotted(path): value for path, value in settings.items()}, config))
    if problems:
        raise ConfigError(problems)
    ablation = arms[0].config.ablation
    name = ablation.study_name if axes and ablation.study_name != "ablation" else stem
    return LoadedExperiment(name, document.name, text, tuple(arms), tuple(_notes(axes, ablation)))


def _axes(document: Document) -> Iterator[Axis]:
    swept = {key: value for key, value in document.data.items() if key != "ablation"}
    axes = list(find_axes(Config, swept))
    for axis in axes:
        if not axis.values:
            raise ConfigError([document.problem(axis.path, "is an empty list; give at least one value")])
        if axis.path == ("save_dir",):
            raise ConfigError([document.problem(axis.path, "cannot be swept: all arms are saved together")])
    yield from axes
    seeds = document.at(("ablation", "seeds"))
    if isinstance(seeds, list) and seeds:
        if any(axis.path == _SEED for axis in axes):
            raise ConfigError([document.problem(("ablation", "seeds"), "and a list in seed: keep one")])
        yield Axis(_SEED, tuple(dict.fromkeys(seeds)))


def _notes(axes: Sequence[Axis], ablation: AblationConfig) -> Iterator[str]:
    if axes and not ablation.use_ablate:
        names = ", ".join(dotted(axis.path) for axis in axes)
        yield f"ablation.use_ablate is false, but lists make a grid all the same: {names}"
    if not axes and ablation.use_ablate:
        yield "ablation.use_ablate is true, but nothing is a list: there is one arm"
