"""Which stages an experiment runs, shares, repeats and leaves, without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunestream.config.experiment.loading import LoadedExperiment, load_experiment
from tunestream.experiments.engine import Engine, StageUpdate
from tunestream.experiments.execution import execute
from tunestream.experiments.manifests import ExperimentManifest
from tunestream.experiments.requests import StageReport
from tunestream.experiments.stage_runner import StageRunner, Work
from tunestream.experiments.stages import Choice, Stage, StageFailed
from tunestream.experiments.store import ExperimentStore

FILES = ("train.jsonl", "validation.jsonl", "test.jsonl", "results.jsonl")


class Runner(StageRunner):
    """Writes files that follow from the inputs, and notes what it ran."""

    def __init__(self) -> None:
        self.ran: list[Stage] = []
        self.fails: dict[Stage, Exception] = {}

    async def run(self, work: Work) -> StageReport:
        """Run nothing."""
        self.ran.append(work.stage)
        if work.stage in self.fails:
            raise self.fails[work.stage]
        work.progress(1, 2)
        for name in FILES:
            (work.folder / name).write_text(f"{name} {work.key}")
        return StageReport(metrics={"rows": 2.0}, details={"weights_sha256": work.key, "kind": "adapter"})


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The runner of all engines."""
    made = Runner()
    monkeypatch.setattr("tunestream.experiments.engine.StageRunner", lambda *_: made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> ExperimentStore:
    return ExperimentStore(tmp_path / "experiments")


Load = Callable[..., LoadedExperiment]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes an experiment and loads it; sections are put in."""

    def make(**sections: Any) -> LoadedExperiment:
        (tmp_path / "rows.csv").write_text("q,a\n1,2\n")
        document = {
            "data": {"path": str(tmp_path / "rows.csv"), "prompt": "{q}", "prompt_stub": "{a}"},
            "model": {"hf_model_ckpt": "some/model"},
            **sections,
        }
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(document))
        return load_experiment(file)

    return make


def statuses(experiment: ExperimentManifest, arm: int = 0) -> dict[str, str]:
    return {str(stage): state.status for stage, state in experiment.arms[arm].stages.items()}


async def test_stages_run_in_order_and_only_once(runner: Runner, store: ExperimentStore, load: Load) -> None:
    first = await Engine(store).run(load())
    assert runner.ran == list(Stage)
    assert set(statuses(first).values()) == {"complete"}
    again = await Engine(store).run(load())
    assert len(runner.ran) == len(Stage)
    assert all(state.reused for state in again.arms[0].stages.values())
    assert again.created == first.created


async def test_arms_share_what_does_not_differ(runner: Runner, store: ExperimentStore, load: Load) -> None:
    await Engine(store, max_parallel=2).run(load(lora={"r": [4, 8]}))
    counts = {stage: runner.ran.count(stage) for stage in Stage}
    assert counts == {
        Stage.INGEST: 1,
        Stage.FINETUNE: 2,
        Stage.INFERENCE: 2,
        Stage.BASELINE: 1,
        Stage.QA: 2,
    }


async def test_a_failure_skips_what_follows_and_no_other_arm(
    runner: Runner, store: ExperimentStore, load: Load
) -> None:
    runner.fails[Stage.FINETUNE] = StageFailed("no_rows", "there are no rows")
    experiment = await Engine(store).run(load(lora={"r": [4, 8]}))
    for arm in (0, 1):
        found = statuses(experiment, arm)
        assert found["ingest"] == "complete"
        assert found["finetune"] == "failed"
        assert {found[name] for name in ("inference", "qa")} == {"skipped"}
    assert experiment.arms[0].stages[Stage.FINETUNE].error == "there are no rows"
    saved = store.earlier(experiment.id)
    assert saved is not None
    assert statuses(saved) == statuses(experiment)


async def test_a_fault_is_a_failure_with_its_name(runner: Runner, store: ExperimentStore, load: Load) -> None:
    runner.fails[Stage.INGEST] = KeyError("q")
    experiment = await Engine(store).run(load())
    assert experiment.arms[0].stages[Stage.INGEST].error == "KeyError: 'q'"


async def test_a_stage_alone_needs_its_parents(runner: Runner, store: ExperimentStore, load: Load) -> None:
    alone = await Engine(store, choice=Choice(only=Stage.FINETUNE)).run(load())
    assert "was not to be run" in str(alone.arms[0].stages[Stage.INGEST].error)
    assert runner.ran == []
    await Engine(store, choice=Choice(only=Stage.INGEST)).run(load())
    await Engine(store, choice=Choice(only=Stage.FINETUNE)).run(load())
    assert runner.ran == [Stage.INGEST, Stage.FINETUNE]


async def test_a_forced_stage_runs_again(runner: Runner, store: ExperimentStore, load: Load) -> None:
    await Engine(store).run(load())
    runner.ran.clear()
    await Engine(store, choice=Choice(force=frozenset({Stage.QA}))).run(load())
    assert runner.ran == [Stage.QA]


async def test_a_preview_runs_nothing(runner: Runner, store: ExperimentStore, load: Load) -> None:
    before = await Engine(store).preview(load())
    assert set(statuses(before).values()) == {"waiting"}
    assert before.arms[0].stages[Stage.INGEST].key is not None
    assert before.arms[0].stages[Stage.QA].key is None
    assert runner.ran == []
    await Engine(store).run(load())
    assert set(statuses(await Engine(store).preview(load())).values()) == {"complete"}


async def test_updates_follow_a_stage(runner: Runner, store: ExperimentStore, load: Load) -> None:
    seen: list[StageUpdate] = []
    await Engine(store, choice=Choice(only=Stage.INGEST), on_update=seen.append).run(load())
    assert [(each.state.status, each.done, each.total) for each in seen] == [
        ("running", 0, 0),
        ("running", 1, 2),
        ("complete", 0, 0),
    ]


async def test_the_data_decide_what_is_used_again(
    runner: Runner, store: ExperimentStore, load: Load, tmp_path: Path
) -> None:
    loaded = load()
    await Engine(store).run(loaded)
    runner.ran.clear()
    (tmp_path / "rows.csv").write_text("q,a\n1,3\n")
    await Engine(store).run(loaded)
    assert runner.ran == list(Stage)


def work(store: ExperimentStore, loaded: LoadedExperiment) -> Work:
    return Work(
        stage=Stage.INGEST,
        config=loaded.arms[0].config,
        key="key",
        inputs={},
        parents={},
        folder=store.work_dir(Stage.INGEST, "key"),
        progress=lambda *_: None,
    )


async def test_attempts_are_counted_over_failures(store: ExperimentStore, load: Load) -> None:
    runner, todo = Runner(), work(store, load())
    runner.fails[Stage.INGEST] = StageFailed("no", "no")
    for _ in range(2):
        with pytest.raises(StageFailed):
            await execute(todo, runner, store)
    assert not store.has(Stage.INGEST, "key")
    runner.fails.clear()
    made = await execute(todo, runner, store)
    assert made.attempts == 3
    assert sorted(made.outputs) == sorted(FILES)
    assert made.metrics == {"rows": 2.0}


async def test_one_process_runs_a_stage(store: ExperimentStore, load: Load) -> None:
    todo = work(store, load())

    class Twice(Runner):
        async def run(self, work: Work) -> StageReport:
            with pytest.raises(StageFailed, match="another process runs the same stage"):
                await execute(todo, Runner(), store)
            return await super().run(work)

    assert (await execute(todo, Twice(), store)).attempts == 1


def test_a_choice_reaches_the_parents_of_its_stage() -> None:
    choice = Choice(only=Stage.INFERENCE)
    assert {stage for stage in Stage if choice.reaches(stage)} == {
        Stage.INGEST,
        Stage.FINETUNE,
        Stage.INFERENCE,
    }
    assert [stage for stage in Stage if choice.takes(stage)] == [Stage.INFERENCE]
    later = Choice(start=Stage.BASELINE)
    assert [stage for stage in Stage if later.takes(stage)] == [Stage.BASELINE, Stage.QA]
