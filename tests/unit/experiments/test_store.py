"""A stage is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.experiments import add_arm, experiment
from tunestream.experiments.stages import Stage
from tunestream.experiments.store import ExperimentStore, NoSuchExperiment, clear, write_atomically


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path)


def test_a_stage_is_there_when_it_is_finished(store: ExperimentStore) -> None:
    work = store.work_dir(Stage.QA, "0")
    work.mkdir(parents=True)
    assert not store.has(Stage.QA, "0")
    work.rmdir()
    add_arm(store, 0, {}, exact=0.5)
    assert store.has(Stage.QA, "qa-0")
    assert not store.work_dir(Stage.QA, "qa-0").exists()
    assert store.stage(Stage.QA, "qa-0").metrics["exact_match"] == 0.5


def test_a_stage_that_is_run_again_takes_the_place_of_the_old_one(store: ExperimentStore) -> None:
    add_arm(store, 0, {}, exact=0.5)
    manifest = store.stage(Stage.QA, "qa-0")
    work = store.work_dir(Stage.QA, "qa-0")
    work.mkdir(parents=True)
    (work / "new.txt").touch()
    folder = store.finish(manifest.model_copy(update={"attempts": 2}))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "new.txt"]
    assert store.stage(Stage.QA, "qa-0").attempts == 2
    assert not (store.root / "doomed").exists()


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_atomically(path, "first")
    write_atomically(path, "größer")
    assert path.read_text("utf-8") == "größer"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    for name in ("manifest.json", ".metrics.json.0123", "answered.jsonl"):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["answered.jsonl"]


def test_experiments_are_listed_by_age(store: ExperimentStore) -> None:
    for number, day in enumerate(("03", "01", "02")):
        manifest = experiment([]).model_copy(
            update={"id": f"id-{number}", "created": f"2026-01-{day}T00:00:00+00:00"}
        )
        store.save(manifest)
    assert [each.id for each in store.all()] == ["id-1", "id-2", "id-0"]
    assert store.earlier("id-1") is not None
    assert store.earlier("id-9") is None


def test_a_manifest_of_another_version_is_named(store: ExperimentStore) -> None:
    store.save(experiment([]))
    path = store.experiment_dir("0123456789abcdef") / "experiment.json"
    path.write_text('{"id": 1}')
    with pytest.raises(NoSuchExperiment, match=r"experiment\.json was written by another version"):
        store.all()


def test_an_unfinished_training_keeps_the_store_of_checkpoints(store: ExperimentStore) -> None:
    arm = add_arm(store, 0, {}, exact=0.5)
    store.save(experiment([arm]))
    store.artifacts.mkdir()
    assert store.unused() == [store.artifacts]
    key = arm.stages[Stage.FINETUNE].key
    assert key is not None
    store.work_dir(Stage.FINETUNE, key).mkdir(parents=True)
    assert store.unused() == []
    gone = {path.name for path in store.unused(but=["0123456789abcdef"])}
    assert {f"finetune-{key}", "ingest-shared", "artifacts"} <= gone


def test_what_is_deleted_is_gone(store: ExperimentStore) -> None:
    add_arm(store, 0, {}, exact=0.5)
    store.delete(store.stage_dir(Stage.QA, "qa-0"))
    assert not store.has(Stage.QA, "qa-0")
