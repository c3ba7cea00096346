"""Trainers that other distributions bring, in a run's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.helpers.trainer_plugin import install_trainer
from tunestream.config.files.errors import ConfigError
from tunestream.config.run import plugins
from tunestream.config.run.loading import parse_run
from tunestream.config.run.plugins import installed_trainers
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trainers import OpaqueTrainer, TrainerReading, resolved
from tunestream.events.runs import RunRecord

RUN = "run_id: own\ntrainer: {_type: command, command: [./train.sh], max_queued: 3}\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in install_trainer(tmp_path):
        monkeypatch.syspath_prepend(place)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_run(text, name="run.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.usefixtures("installed")
def test_its_section_is_read_with_every_trainers_fields() -> None:
    config = parse_run(RUN).config
    assert type(config.trainer).__name__ == "CommandConfig"
    assert (config.trainer.type, config.trainer.max_queued) == ("command", 3)
    assert config.trainer.objective == "dpo", "the trajectory builder's default"
    document = config.document()
    assert document["trainer"]["command"] == ["./train.sh"]
    again = RunConfig.from_record(config.to_record(), trainer="installed")
    assert (again.digest, again.trainer) == (config.digest, config.trainer)
    opaque = RunConfig.from_record(config.to_record())
    assert (opaque.digest, resolved(opaque.trainer)) == (config.digest, config.trainer)


@pytest.mark.usefixtures("installed")
def test_its_mistakes_are_named_with_their_place() -> None:
    assert set(problems(RUN.replace("command: [", "comand: ["))) == {
        "run.yaml:2: trainer.comand: unknown key; did you mean 'command'?",
        "run.yaml:2: trainer.command: is required",
    }


@pytest.mark.usefixtures("installed")
def test_an_unknown_type_lists_what_is_installed() -> None:
    [problem] = problems(RUN.replace("_type: command", "_type: comand"))
    assert problem == (
        "run.yaml:2: trainer: _type 'comand' is unknown; choose one of 'trl', 'command', "
        "'nemo_customizer_trainer_adapter', 'openpipe_art_trainer_adapter'"
    )


@pytest.mark.parametrize("kind", ["command", "trl"])
def test_two_distributions_that_bring_one_name_are_both_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in ("acme", "globex"):
        for place in install_trainer(tmp_path / owner, name=kind, owner=owner):
            monkeypatch.syspath_prepend(place)
    [problem] = problems(RUN.replace("_type: command", f"_type: {kind}"))
    owners = "acme and globex" if kind == "command" else "acme, globex and tunestream"
    assert problem.startswith(
        f"run.yaml:2: trainer: _type '{kind}' is brought by several distributions, {owners}: keep one of them"
    )


def test_what_is_installed_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_trainers()
    monkeypatch.setattr(plugins, "entry_points", lambda **_: pytest.fail("it was looked for again"))
    assert {"trl", "openpipe_art_trainer_adapter"} <= set(installed_trainers())
    parse_run("run_id: r\ntrainer: {model: {hf_model_ckpt: m}}\n")


def test_what_cannot_be_loaded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in install_trainer(tmp_path, name="broken", value="no_such_module:BACKEND"):
        monkeypatch.syspath_prepend(place)
    [problem] = problems(RUN.replace("_type: command", "_type: broken"))
    assert "cannot be loaded from no_such_module:BACKEND: No module named 'no_such_module'" in problem


def test_what_describes_no_trainer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in install_trainer(tmp_path, name="wrong", value="json:dumps"):
        monkeypatch.syspath_prepend(place)
    [problem] = problems(RUN.replace("_type: command", "_type: wrong"))
    assert "without a TrainerSection" in problem


@pytest.mark.parametrize("trainer", ["opaque", "installed"])
def test_a_service_without_it_keeps_the_section_as_it_is(trainer: TrainerReading) -> None:
    document = RunConfig.model_validate(
        {"run_id": "own", "trainer": {"_type": "trl", "model": {"hf_model_ckpt": "m"}}}
    ).document()
    document["trainer"] = {"_type": "elsewhere", "objective": "dpo", "depth": {"layers": 3}}
    record = RunRecord(run_id="own", digest="d", config=document)
    config = RunConfig.from_record(record, trainer=trainer)
    assert isinstance(config.trainer, OpaqueTrainer)
    assert config.trainer.type == "elsewhere"
    assert config.document()["trainer"].items() >= document["trainer"].items()


def test_a_trainer_that_cannot_read_a_section_keeps_it_as_it_is() -> None:
    config = parse_run(
        "{run_id: r, trajectory_builder: {_type: openpipe_art_traj_builder}, "
        "trainer: {_type: openpipe_art_trainer_adapter, backend: {kind: local}}}"
    ).config
    document = config.document()
    document["trainer"]["backend"]["model_service"] = "cpu"  # as an earlier release wrote it
    kept = RunConfig.from_record(RunRecord(run_id="r", digest="d", config=document), trainer="installed")
    assert isinstance(kept.trainer, OpaqueTrainer)
    assert kept.document() == document
    with pytest.raises(ValidationError, match="model_service"):
        resolved(kept.trainer)


NEMO = "{_type: nemo_customizer_trainer_adapter, entity_host: h, datastore_host: h, namespace: n, "


@pytest.mark.parametrize(
    ("trainer", "builder", "trains"),
    [
        (NEMO + "customization_config: c}", "openpipe_art_traj_builder", "dpo"),
        ("{_type: openpipe_art_trainer_adapter, backend: {ip: h, port: 1}}", "dpo_traj_builder", "grpo"),
    ],
)
def test_a_trainer_that_cannot_train_what_is_built_is_refused(
    trainer: str, builder: str, trains: str
) -> None:
    [problem] = problems(f"run_id: r\ntrajectory_builder: {{_type: {builder}}}\ntrainer: {trainer}\n")
    assert f"trains {trains} as it is set, which does not fit {builder}" in problem
