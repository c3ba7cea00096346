"""Reads a run's file, in our shape or in the NeMo Agent Toolkit's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

from tunestream.config.files.document import Document, Keys, dotted
from tunestream.config.files.errors import ConfigError, Problem
from tunestream.config.files.keys import fields_of, suggestion
from tunestream.config.files.validation import validated, without_unknown_keys
from tunestream.config.files.yaml_reader import read_document, read_text
from tunestream.config.nat.inert import take_inert
from tunestream.config.nat.reference import has_reference_shape, to_native
from tunestream.config.run.run import OfflineConfig, RunConfig
from tunestream.config.run.section import Section
from tunestream.config.run.unused import unused_problems

__all__ = ["Loaded", "LoadedRun", "OfflineSection", "load_offline", "load_run", "parse_run"]

Config = TypeVar("Config", bound=Section)
OfflineSection = Literal["trajectory_builder", "curriculum_learning", "batching"]
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Config]):
    """The content of a run's file.

    Attributes:
        config: the configuration with every default filled in.
        notes: what the file holds that means nothing here, for people.
        origins: dotted path of each value → ``file:line``, ``default``, ``argument`` or ``file name``.
    """

    config: Config
    notes: tuple[str, ...]
    origins: Mapping[str, str]


LoadedRun = Loaded[RunConfig]


def load_run(path: str | Path, *, run_id: str | None = None) -> LoadedRun:
    """Read a run's file.

    Args:
        path: a YAML (or JSON) file in the native shape or in the NeMo Agent Toolkit's.
        run_id: takes the place of the file's; the toolkit's shape has none and falls back to the file's
            name without its ending.

    Raises:
        ConfigError: with every problem that was found.
    """
    return _run(read_document(Path(path)), run_id)


def parse_run(text: str, *, name: str = "<text>", run_id: str | None = None) -> LoadedRun:
    """Read a run from YAML text; ``name`` stands for the file in messages.

    Raises:
        ConfigError: with every problem that was found.
    """
    return _run(read_text(text, name=name), run_id)


def load_offline(path: str | Path, *sections: OfflineSection) -> Loaded[OfflineConfig]:
    """Read only ``sections`` of a run's file; the rest may be incomplete or wrong.

    Raises:
        ConfigError: with every problem of these sections, and every unknown section.
    """
    document = read_document(Path(path))
    reference = has_reference_shape(document)
    notes: list[Problem] = []
    if reference:
        document, notes = to_native(document, whole=False)
    notes += take_inert(document)[1]
    notes += _unknown_sections(document, fatal=not reference)
    document.data = {key: value for key, value in document.data.items() if key in sections}
    if reference:
        notes += without_unknown_keys(OfflineConfig, document)
    return _loaded(validated(OfflineConfig, document), document, notes, {})


def _run(document: Document, run_id: str | None) -> LoadedRun:
    reference = has_reference_shape(document)
    notes: list[Problem] = []
    if reference:
        document, notes = to_native(document, whole=True)
    origins = _name_run(document, run_id, fall_back=reference)
    inert, problems = take_inert(document)
    if reference:
        notes += without_unknown_keys(RunConfig, document)
    config = validated(RunConfig, document).with_settings_of_the_toolkit(inert)
    problems += unused_problems(config, document)
    if problems and not reference:
        raise ConfigError(problems)
    return _loaded(config, document, notes + problems, origins)


def _name_run(document: Document, run_id: str | None, *, fall_back: bool) -> dict[str, str]:
    if run_id is not None:
        document.data["run_id"] = run_id
        return {"run_id": "argument"}
    if fall_back and "run_id" not in document.data:
        document.data["run_id"] = Path(document.name).stem
        return {"run_id": "file name"}
    return {}


def _unknown_sections(document: Document, *, fatal: bool) -> list[Problem]:
    unknown = [key for key in document.data if key not in fields_of(RunConfig)]
    if not fatal:
        return [document.problem((key,), "means nothing here and is ignored") for key in unknown]
    if unknown:
        hints = ((key, suggestion(RunConfig, document, (key,))) for key in unknown)
        raise ConfigError(document.problem((key,), f"unknown key; {hint}") for key, hint in hints)
    return []


def _loaded(
    config: Config, document: Document, notes: list[Problem], origins: Mapping[str, str]
) -> Loaded[Config]:
    values = config.model_dump(mode="json")
    read = {
        dotted(path): document.where(path) if path in document.lines else _DEFAULT for path in _leaves(values)
    }
    return Loaded(config, tuple(map(str, notes)), read | dict(origins))


def _leaves(value: Any, path: Keys = ()) -> Iterator[Keys]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path
