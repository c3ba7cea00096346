"""Whole experiments on the tiny model: grids, what they share, resuming, and the shapes of data."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.experiments.conftest import MakeFile, letters
from tunestream.config.experiment.loading import load_experiment
from tunestream.experiments.choosing import metrics_of
from tunestream.experiments.engine import Engine, StageUpdate
from tunestream.experiments.manifests import ExperimentManifest
from tunestream.experiments.report import write_report
from tunestream.experiments.stage_runner import Processes
from tunestream.experiments.stages import Choice, Stage
from tunestream.experiments.store import ExperimentStore
from tunestream.trainers.worker.handle import WorkerHandle

pytestmark = pytest.mark.timeout(900)


class Ran:
    """An experiment that was run, and which stages were."""

    def __init__(self, file: Path) -> None:
        self.loaded = load_experiment(file)
        self.store = ExperimentStore(self.loaded.save_dir)
        self.updates: list[StageUpdate] = []
        self.experiment: ExperimentManifest

    @property
    def stages(self) -> Counter[Stage]:
        """How often each stage was started."""
        keys = {(u.stage, u.state.key) for u in self.updates if u.state.status == "running"}
        return Counter(stage for stage, _ in keys)

    def statuses(self, arm: int = 0) -> dict[Stage, str]:
        return {stage: state.status for stage, state in self.experiment.arms[arm].stages.items()}

    def manifest(self, stage: Stage, arm: int = 0) -> Any:
        return self.store.stage(stage, str(self.experiment.arms[arm].stages[stage].key))


async def run(file: Path, processes: Processes, **options: Any) -> Ran:
    ran = Ran(file)
    engine = Engine(ran.store, on_update=ran.updates.append, processes=processes, **options)
    ran.experiment = await engine.run(ran.loaded)
    return ran


def complete(ran: Ran) -> bool:
    return all(state.status == "complete" for arm in ran.experiment.arms for state in arm.stages.values())


async def test_a_study_runs_each_shared_stage_once_and_goes_on_where_it_stopped(
    make_file: MakeFile, processes: Processes
) -> None:
    grid = {"lora": {"r": [4, 8]}, "inference": {"max_new_tokens": [1, 2]}}
    first = await run(make_file(**grid), processes, max_parallel=2)
    assert complete(first)
    assert first.stages == {
        Stage.INGEST: 1,
        Stage.FINETUNE: 2,
        Stage.BASELINE: 2,
        Stage.INFERENCE: 4,
        Stage.QA: first.stages[Stage.QA],
    }
    trained = first.manifest(Stage.FINETUNE)
    assert trained.versions["trl"]
    assert trained.hardware.cores >= 1
    assert trained.seeds == {"seed": 42}
    assert {"curve.jsonl", "result.json", "weights/adapter_model.safetensors"} <= trained.outputs.keys()
    assert not any(name.endswith((".bin", ".pkl", ".pt")) for name in trained.outputs)
    metrics = metrics_of(first.store, first.experiment.arms[0])
    assert {"exact_match", "train_loss"} <= metrics.keys()
    assert write_report(first.store, first.experiment).is_file()

    again = await run(make_file(**grid), processes)
    assert (again.stages, again.experiment.created) == (Counter(), first.experiment.created)

    forced = await run(make_file(**grid), processes, choice=Choice(force=frozenset({Stage.INFERENCE})))
    assert forced.stages == {Stage.INFERENCE: 4}  # the same answers: nothing behind them is made anew

    warmer = {"lora": {"r": [4, 8]}, "inference": {"max_new_tokens": [1, 2], "repetition_penalty": 1.5}}
    changed = await run(make_file(**warmer), processes, choice=Choice(only=Stage.BASELINE))
    assert changed.stages == {Stage.BASELINE: 2}
    assert changed.statuses()[Stage.FINETUNE] == "waiting"


async def test_a_failing_arm_does_not_stop_the_others(make_file: MakeFile, processes: Processes) -> None:
    file = make_file(training={"training_args": {"optim": ["no_such_optimiser", "adamw_torch"]}})
    ran = await run(file, processes)
    failed, fine = ran.statuses(0), ran.statuses(1)
    assert (failed[Stage.INGEST], failed[Stage.FINETUNE], failed[Stage.QA]) == (
        "complete",
        "failed",
        "skipped",
    )
    assert "no_such_optimiser" in str(ran.experiment.arms[0].stages[Stage.FINETUNE].error)
    assert set(fine.values()) == {"complete"}


async def test_a_stage_alone_needs_its_parents(make_file: MakeFile, processes: Processes) -> None:
    file = make_file()
    early = await run(file, processes, choice=Choice(only=Stage.INFERENCE))
    assert early.stages == {}
    assert "ingest is not complete" in str(early.experiment.arms[0].stages[Stage.INGEST].error)
    ingested = await run(file, processes, choice=Choice(only=Stage.INGEST))
    assert ingested.stages == {Stage.INGEST: 1}
    rest = await run(file, processes, choice=Choice(start=Stage.FINETUNE))
    assert complete(rest)
    assert Stage.INGEST not in rest.stages


def as_csv(folder: Path) -> dict[str, Any]:
    rows = letters(20)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {"data": {"file_type": "csv", "path": str(folder / "rows.csv")}, "lora": None}


def as_huggingface(folder: Path) -> dict[str, Any]:
    from datasets import Dataset

    Dataset.from_list(letters(20)).save_to_disk(str(folder / "saved"))
    bits = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_type": "nf4"}
    return {
        "data": {"file_type": "huggingface", "path": str(folder / "saved")},
        "model": {"quantize": True, "bitsandbytes": bits, "torch_dtype": "bfloat16"},
        "training": {"training_args": {"optim": "paged_adamw_32bit", "tf32": True, "bf16": True}},
    }


def as_preferences(folder: Path) -> dict[str, Any]:
    rows = [
        {"talk": [{"role": "user", "content": row["letter"]}], "good": row["colour"], "bad": row["wrong"]}
        for row in letters(20)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"path": str(folder / "rows.jsonl"), "messages": "talk", "chosen": "{good}", "rejected": "{bad}"}
    return {"data": {**data, "prompt": None, "prompt_stub": None}, "objective": ["dpo", "kto"]}


@pytest.mark.parametrize("shape", [as_csv, as_huggingface, as_preferences])
async def test_every_shape_goes_through_all_stages(
    make_file: MakeFile, processes: Processes, tmp_path: Path, shape: Any
) -> None:
    args = {"per_device_train_batch_size": 16, "learning_rate": 1e-2}
    sections = shape(tmp_path)
    given = sections.pop("training", {"training_args": {}})["training_args"]
    ran = await run(make_file(**sections, training={"training_args": args | given}), processes)
    assert complete(ran), [arm.stages for arm in ran.experiment.arms]
    results = ran.store.stage_dir(Stage.INFERENCE, ran.manifest(Stage.INFERENCE).key) / "results.csv"
    with results.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    if shape is as_csv:
        assert ran.manifest(Stage.FINETUNE).details["kind"] == "full"
    if shape is as_huggingface:
        said = " ".join(ran.manifest(Stage.FINETUNE).notes)
        assert "tf32" in said or "paged" in said or os.environ.get("CUDA_VISIBLE_DEVICES")


LONG = {"num_train_epochs": 8, "per_device_train_batch_size": 1, "save_steps": 20, "learning_rate": 1e-3}
STEPS = 16 * 8


def weights_of(ran: Ran) -> str:
    return str(ran.manifest(Stage.FINETUNE).details["weights_sha256"])


def steps_of(ran: Ran) -> list[float]:
    """The steps of the loss curve."""
    curve = ran.store.stage_dir(Stage.FINETUNE, ran.manifest(Stage.FINETUNE).key) / "curve.jsonl"
    return [json.loads(line)["step"] for line in curve.read_text().splitlines()]


def saved_elsewhere(file: Path, folder: Path) -> Path:
    document = yaml.safe_load(file.read_text()) | {"save_dir": str(folder)}
    other = file.with_name("uninterrupted.yaml")
    other.write_text(yaml.safe_dump(document))
    return other


async def uninterrupted(file: Path, processes: Processes, folder: Path) -> Ran:
    other = saved_elsewhere(file, folder)
    await run(other, processes, choice=Choice(only=Stage.INGEST))
    return await run(other, processes, choice=Choice(only=Stage.FINETUNE))


async def test_training_whose_worker_was_killed_goes_on_from_its_checkpoint(
    make_file: MakeFile, processes: Processes, trl_worker: WorkerHandle, tmp_path: Path
) -> None:
    file = make_file(training={"training_args": LONG})
    await run(file, processes, choice=Choice(only=Stage.INGEST))
    running = asyncio.create_task(run(file, processes, choice=Choice(only=Stage.FINETUNE)))
    checkpoints = load_experiment(file).save_dir / "artifacts" / "checkpoints"
    while not list(checkpoints.glob("*/1/*/manifest.json")):
        assert not running.done()
        await asyncio.sleep(0.01)
    assert trl_worker.pid is not None
    os.kill(trl_worker.pid, signal.SIGKILL)
    killed = await running
    done = [u.done for u in killed.updates if u.stage is Stage.FINETUNE and u.total]
    assert done[-1] == STEPS
    assert list(checkpoints.glob("*")) == []
    whole = await uninterrupted(file, processes, tmp_path / "uninterrupted")
    assert weights_of(whole) == weights_of(killed)
    assert steps_of(whole) == steps_of(killed) == list(range(1, STEPS + 1))


@pytest.mark.soak
async def test_an_experiment_that_was_killed_goes_on_from_its_checkpoint(
    make_file: MakeFile, processes: Processes, tmp_path: Path
) -> None:
    file = make_file(training={"training_args": LONG | {"num_train_epochs": 200}})
    await run(file, processes, choice=Choice(only=Stage.INGEST))
    command = (sys.executable, "-m", "tunestream", "experiment", "run", str(file), "--only", "finetune")
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    checkpoints = load_experiment(file).save_dir / "artifacts" / "checkpoints"
    try:
        while not list(checkpoints.glob("*/1/*/manifest.json")):
            assert process.returncode is None
            await asyncio.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    gone_on = await run(file, processes, choice=Choice(only=Stage.FINETUNE))
    done = [u.done for u in gone_on.updates if u.stage is Stage.FINETUNE and u.total]
    assert min(done) >= 20
    assert gone_on.manifest(Stage.FINETUNE).attempts == 2
    whole = await uninterrupted(file, processes, tmp_path / "uninterrupted")
    assert weights_of(whole) == weights_of(gone_on)
