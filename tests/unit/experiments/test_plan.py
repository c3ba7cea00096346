"""What each stage depends on, what is kept, and what is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.experiments import add_arm, experiment
from tunestream.cli import app
from tunestream.config.experiment.experiment import Config
from tunestream.config.run.loading import load_run
from tunestream.experiments.choosing import NoBest, best_arm
from tunestream.experiments.manifests import Hardware, StageManifest
from tunestream.experiments.plan import Contents, inputs_of, key_of
from tunestream.experiments.samples import SAMPLES
from tunestream.experiments.stages import Stage, StageFailed
from tunestream.experiments.store import ExperimentStore, NoSuchExperiment

runner = CliRunner()


def config(**sections: Any) -> Config:
    data = {"path": "a.csv", "prompt": "{q}", "prompt_stub": "{a}"} | sections.pop("data", {})
    return Config.model_validate({"data": data, "model": {"hf_model_ckpt": "some/model"}} | sections)


def made(stage: Stage, name: str, **details: Any) -> StageManifest:
    files = ("train.jsonl", "validation.jsonl", "test.jsonl", "results.jsonl")
    return StageManifest(
        stage=stage,
        key=f"{stage}-{name}",
        inputs={},
        outputs={file: f"{file}-{name}" for file in files},
        details=details,
        versions={},
        hardware=Hardware(machine="m", system="s", cores=1),
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )


OUTPUTS = {
    Stage.INGEST: made(Stage.INGEST, "one"),
    Stage.FINETUNE: made(Stage.FINETUNE, "one", weights_sha256="weights", kind="adapter"),
    Stage.INFERENCE: made(Stage.INFERENCE, "one"),
    Stage.BASELINE: made(Stage.BASELINE, "one"),
}


def keys(changed: Config, outputs: dict[Stage, StageManifest] = OUTPUTS) -> dict[Stage, str]:
    source = {"sha256": "0"}
    return {stage: key_of(inputs_of(stage, changed, outputs, Contents(), source)) for stage in Stage}


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({"inference": {"temperature": 0.5}}, {Stage.INFERENCE, Stage.BASELINE}),
        ({"training": {"training_args": {"learning_rate": 1.0}}}, {Stage.FINETUNE}),
        ({"training": {"dpo_args": {"beta": 0.3}}}, set()),
        ({"lora": {"r": 4}}, {Stage.FINETUNE}),
        ({"qa": {"llm_metrics": ["word_overlap"]}}, {Stage.QA}),
        ({"data": {"train_size": 0.5}}, {Stage.INGEST}),
        ({"save_dir": "elsewhere"}, set()),
        ({"seed": 1}, {Stage.FINETUNE, Stage.QA}),
        ({"seed": 1, "training": {"training_args": {"seed": 42}}}, {Stage.QA}),
        ({"model": {"hf_model_ckpt": "other/model"}}, {Stage.FINETUNE, Stage.INFERENCE, Stage.BASELINE}),
    ],
)
def test_a_setting_changes_the_stages_that_depend_on_it_and_no_others(
    sections: dict[str, Any], changed: set[Stage]
) -> None:
    before, after = keys(config()), keys(config(**sections))
    assert {stage for stage in Stage if before[stage] != after[stage]} == changed


def test_a_parents_other_output_changes_its_readers() -> None:
    other = OUTPUTS | {Stage.INGEST: made(Stage.INGEST, "two")}
    before, after = keys(config()), keys(config(), other)
    assert {stage for stage in Stage if before[stage] != after[stage]} == {
        Stage.FINETUNE,
        Stage.INFERENCE,
        Stage.BASELINE,
    }


def test_a_models_folder_is_known_by_its_content_not_its_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    first, second = (keys(config(model={"hf_model_ckpt": str(tmp_path / name)})) for name in ("one", "two"))
    assert first == second
    (tmp_path / "two" / "config.json").write_text("{ }")
    assert keys(config(model={"hf_model_ckpt": str(tmp_path / "two")})) != first


def test_a_test_suite_that_is_not_there_is_named() -> None:
    with pytest.raises(StageFailed, match=r"no/suite"):
        keys(config(qa={"test_suite": "no/suite"}))


def test_the_best_arm_is_that_of_the_best_settings(tmp_path: Path) -> None:
    store = ExperimentStore(tmp_path)
    scores = {(8, 1): 0.9, (8, 2): 0.1, (4, 1): 0.6, (4, 2): 0.7}
    arms = [
        add_arm(store, number, {"lora.r": r, "seed": seed}, exact=exact)
        for number, ((r, seed), exact) in enumerate(scores.items())
    ]
    best = best_arm(store, experiment(arms))
    assert (best.arm.settings, best.seeds) == ({"lora.r": 4, "seed": 2}, 2)
    assert best.value == pytest.approx(0.65)
    with pytest.raises(NoBest, match="exact_match"):
        best_arm(store, experiment(arms), metric="bleu")


def test_what_no_experiment_uses_is_garbage(tmp_path: Path) -> None:
    store = ExperimentStore(tmp_path)
    first = experiment([add_arm(store, 0, {}, exact=0.5)])
    add_arm(store, 1, {}, exact=0.5)
    store.save(first)
    store.work_dir(Stage.QA, "gone").mkdir(parents=True)
    names = {path.name for path in store.unused()}
    assert names == {"qa-1", "finetune-1", "inference-1", "qa-gone"}
    listed = runner.invoke(app, ["experiment", "list", "--save-dir", str(tmp_path), "--json"])
    assert json.loads(listed.stdout)[0]["best"] == "arm-000"
    done = runner.invoke(app, ["experiment", "gc", "sums", "--save-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert list(store.stages()) == []
    assert store.all() == []


def test_experiments_are_found_by_id_beginning_or_name(tmp_path: Path) -> None:
    store = ExperimentStore(tmp_path)
    store.save(experiment([], name="one"))
    store.save(experiment([], name="one").model_copy(update={"id": "0199"}))
    assert store.find("0199").id == "0199"
    with pytest.raises(NoSuchExperiment, match="give more"):
        store.find("one")
    with pytest.raises(NoSuchExperiment, match="there are"):
        store.find("two")


def test_the_best_arm_is_exported_as_a_run(tmp_path: Path) -> None:
    store = ExperimentStore(tmp_path)
    arms = [add_arm(store, 0, {}, exact=0.5), add_arm(store, 1, {}, exact=0.9)]
    store.save(experiment(arms))
    file = tmp_path / "run.yaml"
    options = ["--run-config", str(file), "--save-dir", str(tmp_path), "--json"]
    done = runner.invoke(app, ["experiment", "export", "sums", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["arm"] == "arm-001"
    run = load_run(file).config
    assert run.trainer == Config.model_validate(arms[1].config).trainer
    assert (run.run_id, run.digest) == ("sums", json.loads(done.stdout)["digest"])


@pytest.mark.parametrize("name", SAMPLES)
def test_an_example_is_a_valid_experiment(tmp_path: Path, name: str) -> None:
    made = runner.invoke(app, ["experiment", "init", str(tmp_path), "--example", name])
    assert made.exit_code == 0, made.output
    checked = runner.invoke(app, ["experiment", "validate", str(tmp_path / "experiment.yaml"), "--json"])
    assert checked.exit_code == 0, checked.output
    assert len(json.loads(checked.stdout)["arms"]) == (4 if name == "grid" else 1)
    assert runner.invoke(app, ["experiment", "init", str(tmp_path)]).exit_code == 1


def test_a_wrong_file_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("data: {path: a.csv, prompt: '{q}', prompt_stub: '{a}'}\nmodel: {}\n")
    done = runner.invoke(app, ["experiment", "run", str(tmp_path / "x.yaml")])
    assert done.exit_code == 1
    assert not (tmp_path / "experiments").exists()
