"""How soon a promoted version answers: from the job's COMPLETED to the first answer by the new version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy
from tests.bench.results import Figure, at_most
from tests.bench.workload import RUN
from tests.helpers.services import free_port
from tests.helpers.tiny_model import rows, write_tiny_model
from tests.helpers.training import make_config
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.cli.serve import server_command
from tunestream.domain.jobs.submission import make_batch
from tunestream.events.ids import version_id
from tunestream.events.training import Objective, TrainingStatusEnum
from tunestream.sdk import RunControl, StatusSubscriber
from tunestream.serving import served_name

__all__ = ["serving"]

_DEADLINE_SECONDS = 300.0
_ASK_SECONDS = 0.005
_MODEL = "player"


async def serving(context: Context) -> list[Figure]:
    """A job in the trainer service, and the development server that its version is loaded into."""
    model = write_tiny_model(context.folder / "serving-model")
    async with _server(model) as url:
        where = await deploy(
            context.servers,
            context.folder,
            {
                "trainer": make_config(model).model_dump(mode="json", by_alias=True),
                "target_model": _MODEL,
                "serving": [{"url": url}],
            },
        )
        async with where.service("trainer"):
            await _one(where, url, 0)  # the worker and the server import what they need
            rounds = [await _one(where, url, number) for number in range(1, context.rounds + 1)]
    note = "a LoRA adapter of the tiny model, in the development server"
    return [
        Figure("serving", "COMPLETED to the new version's first answer", tuple(rounds), "s", at_most(1), note)
    ]


@asynccontextmanager
async def _server(model: Path) -> AsyncIterator[str]:
    port = free_port()
    command = server_command(model, "base", port=port)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(_DEADLINE_SECONDS):
            while not await _answers(client.get("/health")):
                assert process.returncode is None
                await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(request: Any) -> bool:
    try:
        return bool((await request).is_success)
    except httpx.TransportError:
        return False


async def _one(where: Deployment, url: str, number: int) -> float:
    """Train once and return the seconds between the two moments."""
    content = rows(64, seed=number)
    batch = make_batch(
        RUN,
        config_digest=where.config.digest,
        objective=Objective.DPO,
        train=put_rows(ArtifactStore(str(where.folder / "artifacts")), content),
        validation=None,
        rows=content,
    )
    async with StatusSubscriber(RUN, settings=where.kafka) as statuses, asyncio.timeout(_DEADLINE_SECONDS):
        job = (await RunControl(RUN, settings=where.kafka).submit(batch)).job_id
        assert job is not None
        name = served_name(_MODEL, version_id(RUN, job))
        completed, answered = await asyncio.gather(_completed(statuses, job), _first_answer(url, name))
    return answered - completed


async def _completed(statuses: StatusSubscriber, job: str) -> float:
    async for status in statuses:
        if status.job_id == job and status.status is TrainingStatusEnum.COMPLETED:
            return time.perf_counter()
        assert status.status is not TrainingStatusEnum.FAILED, status.message
    raise AssertionError("the statuses ended")


async def _first_answer(url: str, name: str) -> float:
    body = {"model": name, "prompt": [1], "max_tokens": 1}
    async with httpx.AsyncClient(base_url=url, timeout=_DEADLINE_SECONDS) as client:
        while True:
            answer = await client.post("/v1/completions", json=body)
            if answer.status_code == httpx.codes.OK:
                assert answer.json()["model"] == name
                return time.perf_counter()
            await asyncio.sleep(_ASK_SECONDS)
