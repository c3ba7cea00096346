"""The warm worker against TRL alone, and what a job costs that trains next to nothing."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench.context import Context
from tests.bench.results import Figure, at_least, at_most
from tests.helpers.tiny_model import rows, write_tiny_model
from tests.helpers.training import job_spec, make_config
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.trainers import TrainingResult
from tunestream.trainers.trl.worker import TRLWorkerHandle
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.protocol import Finished

__all__ = ["trainer"]

_LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
_EPOCHS, _BATCH, _LENGTH = 2, 64, 32
_BARE_DEADLINE_SECONDS = 300.0


async def trainer(context: Context) -> list[Figure]:
    """A 1-step job in a warm worker, and its speed beside bare TRL's."""
    model = write_tiny_model(context.folder / "tiny")
    store = ArtifactStore(str(context.folder / "artifacts"))
    worker = TRLWorkerHandle()
    await worker.start()
    try:
        return [
            *await _fixed_cost(context, worker, store, model),
            *await _against_bare(context, worker, store, model),
        ]
    finally:
        await worker.close()


async def _fixed_cost(
    context: Context, worker: WorkerHandle, store: ArtifactStore, model: Path
) -> list[Figure]:
    config = make_config(model, lora=_LORA, num_train_epochs=1, per_device_train_batch_size=_BATCH)
    train = put_rows(store, rows(_BATCH))
    seconds = []
    for _ in range(context.sized(33, 8)):
        began = time.perf_counter()
        result = await _train(worker, job_spec(store, config, train=train, validation=None))
        seconds.append(time.perf_counter() - began)
        assert result.metrics["steps"] == 1
    warm = 3
    return [Figure("trainer", "one step, warm: asked to stored", tuple(seconds[warm:]), "s", at_most(1))]


async def _against_bare(
    context: Context, worker: WorkerHandle, store: ArtifactStore, model: Path
) -> list[Figure]:
    count = context.sized(2048, 256)
    config = make_config(model, lora=_LORA, num_train_epochs=_EPOCHS, per_device_train_batch_size=_BATCH)
    train = put_rows(store, rows(count))
    file = context.folder / "rows.jsonl"
    file.write_text("".join(_trl_row(each) for each in rows(count)), "utf-8")
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    async with _bare_trl(model, file) as ask:
        await ask()
        for _ in range(context.rounds):
            bare.append(await ask())
            began = time.perf_counter()
            result = await _train(worker, job_spec(store, config, train=train, validation=None))
            ours.append(result.metrics | {"all": time.perf_counter() - began})
    pairs = list(zip(ours, bare, strict=True))
    note = "the same rows and steps; ours knows the reference's log-probabilities before train() begins"
    return [
        Figure(
            "trainer",
            "tokens/s to bare TRL's, whole job",
            tuple(b["all"] / a["all"] for a, b in pairs),
            "x",
            at_least(1),
        ),
        Figure(
            "trainer",
            "tokens/s to bare TRL's, train() alone",
            tuple(b["train"] / a["train_seconds"] for a, b in pairs),
            "x",
            None,
            note,
        ),
        Figure("trainer", "tokens/s in train()", tuple(a["tokens_per_second"] for a in ours), "tokens/s"),
    ]


async def _train(worker: WorkerHandle, spec: Any) -> TrainingResult:
    reports = [report async for report in worker.run(spec)]
    end = reports[-1]
    if not isinstance(end, Finished):
        raise AssertionError(f"the job did not finish: {end}")
    return end.result


@asynccontextmanager
async def _bare_trl(model: Path, file: Path) -> AsyncIterator[Any]:
    arguments = {
        "num_train_epochs": _EPOCHS,
        "per_device_train_batch_size": _BATCH,
        "learning_rate": 2e-2,
        "beta": 0.5,
        "max_length": _LENGTH,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.bare_trl",
        str(model),
        str(file),
        json.dumps(arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    asked, answers = process.stdin, process.stdout
    assert asked is not None
    assert answers is not None

    async def ask() -> dict[str, float]:
        asked.write(b"\n")
        async with asyncio.timeout(_BARE_DEADLINE_SECONDS):
            while line := await answers.readline():
                if line.startswith(b'{"train"'):
                    seconds: dict[str, float] = json.loads(line)
                    return seconds
        raise ChildProcessError("bare TRL ended")

    try:
        yield ask
    finally:
        asked.close()
        await process.wait()


def _trl_row(row: Any) -> str:
    return json.dumps({"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}) + "\n"
