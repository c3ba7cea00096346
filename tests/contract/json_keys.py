"""The keys that commands print with ``--json``, from a deployment that holds the examples of docs/wire.

``python -m tests.contract.json_keys`` prints them. Every command is run against a real broker, but ``demo``,
whose results are made here. With ``--follow`` a command prints what it prints without, a line each; and
``tests/integration/cli`` follows them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest import mock

import aiokafka
import yaml
from typer.testing import CliRunner

from tests.helpers.experiments import add_arm, experiment

_ROOT: Final = Path(__file__).parents[2]
_EXAMPLES: Final = sorted((_ROOT / "docs/wire/examples").glob("*/*.json"))
_RUN, _TURN, _OTHER = "tic-tac-toe", "game-17/turn-3", "f" * 32
# Below these keys are a user's own names.
_OPEN: Final = frozenset(
    {"config", "dropped", "headers", "metrics", "refused", "settings", "skipped", "weights"}
)
_SECTIONS: Final = "trainer: {_type: trl, model: {hf_model_ckpt: m}}\n"
_RUN_FILE: Final = f"run_id: served\n{_SECTIONS}serving: [{{url: 'http://127.0.0.1:9'}}]\n"
_EXPERIMENT: Final = "data: {path: SUMS, prompt: '{q}', prompt_stub: '{a}'}\nmodel: {hf_model_ckpt: m}\n"
_DATA: Final = "q,a\n1,2\n"
_ROW: Final = {
    "group_id": "g",
    "example_id": "game-17",
    "turn_id": "turn-3",
    "prompt": "p",
    "chosen": "a",
    "rejected": "b",
    "chosen_score": 1.0,
    "rejected_score": 0.0,
    "reward": 1.0,
}
_STEP: Final = {"event_type": "TTC_END", "event_timestamp": 1.0, "name": "move", "UUID": "u"}


def keys(document: object, path: str = "") -> Iterator[str]:
    """Yield the path of every key; those of a list's elements begin with ``[]``."""
    if isinstance(document, Mapping):
        for name, inner in document.items():
            here = f"{path}.{name}".removeprefix(".")
            yield here
            if name not in _OPEN or not isinstance(inner, Mapping):
                yield from keys(inner, here)
    elif isinstance(document, list):
        for inner in document:
            yield from keys(inner, f"{path}[]")


def json_keys() -> dict[str, list[str]]:
    """Return the keys of each command, sorted; takes half a minute."""
    with TemporaryDirectory() as scratch, _broker(Path(scratch) / "kafka") as broker:
        folder = Path(scratch)
        variables = {
            "KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
            "TUNESTREAM_KAFKA_TOPIC_PREFIX": "",
            "TUNESTREAM_ARTIFACTS": str(folder / "artifacts"),
        }
        with mock.patch.dict(os.environ, variables):
            printed = {
                "kafka": broker,
                "demo": _demo(),
                "topics diff": _printed("topics", "diff"),
                "topics apply": _printed("topics", "apply"),
                "topics list": _printed("topics", "list"),
            }
            with _line(["up", "--only", "ttc_collector", "--data", str(folder / "up")]) as up:
                printed["up"] = up
            version = _fill(folder)
            printed |= {name: _printed(*line) for name, line in _lines(folder, version)}
    return {name: sorted(set(keys(document))) for name, document in sorted(printed.items())}


def _lines(folder: Path, version: Mapping[str, Any]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield command lines, each under the name of its command."""
    this, job = version["version"], version["job_id"]
    run, bad, events = folder / "run.yaml", folder / "bad.yaml", folder / "events.jsonl"
    yield "run apply", ("run", "apply", run, "--no-health-check")
    yield "run list", ("run", "list")
    yield "run show", ("run", "show", "served")
    yield "run show --origin", ("run", "show", run, "--origin")
    yield "run validate", ("run", "validate", run)
    yield "run validate, wrong", ("run", "validate", bad)
    yield "doctor", ("doctor",)
    yield "status", ("status",)
    for name in ("jobs", "jobs list", "models", "models list"):
        yield name, tuple(name.split())
    for name in ("show", "wait", "logs"):
        yield f"jobs {name}", ("jobs", name, job)
    yield "jobs cancel", ("jobs", "cancel", job, "--dry-run")
    yield "jobs submit", ("jobs", "submit", "--job", job, "--dry-run")
    yield "models show", ("models", "show", this)
    yield "models promote", ("models", "promote", _RUN, _OTHER, "--dry-run")
    yield "models rollback", ("models", "rollback", _RUN, _OTHER, "--dry-run")
    yield "models lineage", ("models", "lineage", this)
    yield "models lineage --turn", ("models", "lineage", "--turn", _TURN, "--run", _RUN)
    yield "models diff", ("models", "diff", this, _OTHER)
    yield "models export", ("models", "export", this, folder / "exported")
    yield "models gc", ("models", "gc", "--dry-run")
    yield "models serving", ("models", "serving", "served")
    exported = ("-o", folder / "trajectories.jsonl")
    yield "trajectories export", ("trajectories", "export", _RUN, *exported)
    yield "dlq", ("dlq",)
    yield "dlq list", ("dlq", "list")
    yield "dlq show", ("dlq", "show", "trajectories/2/0")
    yield "dlq replay", ("dlq", "replay", "--all", "--dry-run")
    yield "streams seek", ("streams", "seek", "pair-builder", "ttc.candidates", 2, "earliest")
    yield "upgrade show", ("upgrade", "show")
    yield "upgrade finish", ("upgrade", "finish")
    yield "dlq purge", ("dlq", "purge", "--before", "2999-01-01", "--dry-run")
    yield "dlq skip", ("dlq", "skip", "ttc.candidates", 2, 0, "--dry-run")
    yield "publish", ("publish", events, "--run", _RUN, "--format", "nat", "--dry-run")
    yield "pairs", ("pairs", events, "--config", folder / "pairs.yaml", "-o", folder / "pairs.jsonl")
    stored = ("--save-dir", folder / "experiments")
    yield "experiment validate", ("experiment", "validate", folder / "experiment.yaml")
    yield "experiment list", ("experiment", "list", *stored)
    yield "experiment show", ("experiment", "show", "sums", *stored)
    yield "experiment compare", ("experiment", "compare", "sums", *stored)
    yield "experiment gc", ("experiment", "gc", *stored, "--dry-run")
    made = ("--run-config", folder / "exported.yaml", "--weights", folder / "weights")
    yield "experiment export", ("experiment", "export", "sums", *made, *stored)
    yield "experiment run", ("experiment", "run", folder / "experiment.yaml", "--dry-run")


def _printed(*arguments: object) -> Any:
    from tunestream.cli import app

    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    try:
        return json.loads(result.stdout)
    except json.JSONDecodeError as error:
        raise AssertionError(f"{arguments}: {result.stdout} {result.stderr} {result.exception!r}") from error


@contextmanager
def _broker(folder: Path) -> Iterator[dict[str, Any]]:
    with _line(["kafka", "--port", "0", "--data", str(folder)]) as told:
        yield told


@contextmanager
def _line(arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Run a command that stays, and yield the line that it prints once it is ready."""
    command = [sys.executable, "-m", "tunestream", *arguments, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def _fill(folder: Path) -> dict[str, Any]:
    """Write the examples to the broker and files to the folder; return the version of the examples."""
    from tunestream.artifacts import ArtifactStore

    store = ArtifactStore(str(folder / "artifacts"))
    weights = folder / "made"
    weights.mkdir()
    (weights / "adapter.bin").write_bytes(b"weights")
    tree, rows = store.put_directory(weights), store.put_bytes(json.dumps(_ROW).encode() + b"\n")
    records = [json.loads(path.read_text("utf-8")) for path in _EXAMPLES]
    bodies = {record["headers"]["ce_type"]: record for record in records}
    version = bodies["tunestream.model_version.v1"]
    version["body"]["artifact"] |= {"uri": tree.uri, "sha256": tree.sha256}
    bodies["tunestream.job.v1"]["body"]["batch"]["train"] |= {"uri": rows.uri, "sha256": rows.sha256}
    group = json.dumps(bodies["tunestream.trajectory_group.v1"]["body"]).encode()
    stored = store.put_bytes(group)
    bodies["tunestream.trajectory_group_ref.v1"]["body"] |= {"uri": stored.uri, "sha256": stored.sha256}
    other = version | {"key": f"{_RUN}/{_OTHER}", "body": version["body"] | {"version": _OTHER, "number": 2}}
    asyncio.run(_write([*records, other]))
    _write_files(folder)
    return dict(version["body"])


async def _write(records: list[dict[str, Any]]) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"]) as producer:
        for record in records:
            await producer.send_and_wait(
                record["topic"],
                json.dumps(record["body"], separators=(",", ":"), ensure_ascii=False).encode(),
                record["key"].encode(),
                2 if record["partition"] is None else record["partition"],
                headers=[(name, text.encode()) for name, text in record["headers"].items()],
            )


def _write_files(folder: Path) -> None:
    from tunestream.experiments.stages import Stage
    from tunestream.experiments.store import ExperimentStore

    steps = [
        _STEP | {"data": {"input": "p", "output": name, "turn_id": "t", "score": score, "candidate_index": 0}}
        for name, score in (("good", 0.9), ("bad", 0.1))
    ]
    lines = [json.dumps({"example_id": "e", "step": {"payload": payload}}) + "\n" for payload in steps]
    (folder / "events.jsonl").write_text("".join(lines), "utf-8")
    (folder / "pairs.yaml").write_text("trajectory_builder: {ttc_step_name: move}\n", "utf-8")
    (folder / "run.yaml").write_text(_RUN_FILE, "utf-8")
    (folder / "bad.yaml").write_text(f"run_id: served\nmistake: 1\n{_SECTIONS}", "utf-8")
    (folder / "sums.csv").write_text(_DATA, "utf-8")
    (folder / "experiment.yaml").write_text(_EXPERIMENT.replace("SUMS", str(folder / "sums.csv")), "utf-8")
    store = ExperimentStore(folder / "experiments")
    arms = [add_arm(store, number, {"seed": number}, exact=0.5 + number / 10) for number in range(2)]
    for arm in arms:
        weights = store.stage_dir(Stage.FINETUNE, str(arm.stages[Stage.FINETUNE].key)) / "weights"
        weights.mkdir()
    store.save(experiment(arms))


def _demo() -> Any:
    from tunestream.demo.evaluation import Outcomes, Strength
    from tunestream.demo.game import test_boards
    from tunestream.demo.results import Activity, DemoResults
    from tunestream.events.training import Objective

    count = len(test_boards())
    results = DemoResults(
        run_id="r",
        seed=0,
        objective=Objective.DPO,
        quantization=None,
        unit="pairs",
        strengths=tuple(Strength(number, None, (number > 0,) * count, 0) for number in range(2)),
        before=Outcomes(0.0, 0.0, 1.0, 0.0),
        after=Outcomes(1.0, 0.0, 0.0, 0.0),
        activity=Activity(1, 1, 1, 1, 0, 1.0),
    )
    return results.document()


if __name__ == "__main__":
    yaml.safe_dump(json_keys(), sys.stdout)
