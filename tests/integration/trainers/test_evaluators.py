"""Evaluators of a run's own, in real processes and behind a real server, with their faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import pytest
from fastapi import FastAPI, Request

from tests.helpers.evaluators import Endpoint, Served, install
from tests.helpers.tiny_model import rows
from tests.helpers.training import job_spec, make_config, result_of
from tunestream.artifacts import ArtifactStore, put_rows
from tunestream.config.run.evaluation import HTTPEvaluatorConfig, PythonEvaluatorConfig
from tunestream.events.dataset import DatasetRow
from tunestream.events.models import Artifact, ItemScore
from tunestream.events.training import DatasetFile, Objective
from tunestream.trainers.evaluators import (
    EvaluationRequest,
    EvaluatorFailed,
    PolicyRef,
    ask,
    held_out_items,
)
from tunestream.trainers.worker.handle import WorkerHandle

JUDGES = """
import os, time

def by_weights(task):
    print("noise on standard output")
    better = (task.candidate.folder / "weights").read_text()
    worse = (task.current.folder / "weights").read_text()
    assert task.base_model == "models/base" and task.candidate.kind == "adapter"
    return [(float(better) * task.options["factor"], float(worse)) for item in task.items if item.prompt]

def infinite(task):
    return [(float("inf"), 0.0) for _ in task.items]

def broken(task):
    raise RuntimeError("the judge is out: " + os.environ["JUDGE_API_KEY"])

def gone(task):
    os._exit(7)

def slow(task):
    pid = os.fork()
    with open(task.options["pids"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)
"""
PAGE = Path(__file__).parents[3] / "docs/models.md"
ITEMS: list[DatasetRow] = [*rows(12, seed=7)]
ROWS = 6


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


def weights(store: ArtifactStore, folder: Path, name: str, content: str) -> PolicyRef:
    source = folder / name
    source.mkdir()
    (source / "weights").write_text(content)
    stored = store.put_directory(source)
    return PolicyRef.of(name, Artifact(uri=stored.uri, sha256=stored.sha256, kind="adapter"), store)


@pytest.fixture
def request_(store: ArtifactStore, tmp_path: Path) -> EvaluationRequest:
    return EvaluationRequest(
        run_id="run",
        job_id="job",
        evaluator="judge",
        base_model="models/base",
        candidate=weights(store, tmp_path, "candidate", "0.75"),
        current=weights(store, tmp_path, "current", "0.5"),
        options={},
        items=ITEMS[:ROWS],
    )


@pytest.fixture(autouse=True)
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("by_weights", "infinite", "broken", "gone", "slow")
    folder = install(tmp_path / "site", JUDGES, **{name: f"judges:{name}" for name in names})
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("JUDGE_API_KEY", "a-secret-of-the-judge")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda item: (float(item["chosen"] == "red"), 0.25)) as server:
        yield server


def python(name: str, **fields: object) -> PythonEvaluatorConfig:
    return PythonEvaluatorConfig.model_validate({"name": "judge", "entry_point": name, **fields})


def http(endpoint: Endpoint, **fields: object) -> HTTPEvaluatorConfig:
    return HTTPEvaluatorConfig.model_validate({"name": "judge", "url": endpoint.url, **fields})


async def test_a_function_scores_both_versions_in_a_process_of_its_own(
    request_: EvaluationRequest, store: ArtifactStore
) -> None:
    asked = request_.model_copy(update={"options": {"factor": 2}})
    scores = await ask(python("by_weights"), asked, store)
    assert scores == [ItemScore(candidate=1.5, current=0.5)] * ROWS


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("infinite", "finite"),
        ("broken", r"RuntimeError: the judge is out: \[redacted\]"),
        ("gone", "ended with 7"),
        ("nobody", r"no entry point 'nobody' .* by_weights, .*install the package"),
    ],
)
async def test_a_function_that_gives_no_scores_is_told(
    request_: EvaluationRequest, store: ArtifactStore, name: str, told: str
) -> None:
    with pytest.raises(EvaluatorFailed, match=told):
        await ask(python(name), request_, store)


async def test_missing_weights_are_told(request_: EvaluationRequest, store: ArtifactStore) -> None:
    store.delete(request_.candidate.uri)
    with pytest.raises(EvaluatorFailed, match="the weights of version candidate cannot be read"):
        await ask(python("by_weights"), request_, store)


async def test_weights_that_stay_with_their_backend_are_left_to_endpoints(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint
) -> None:
    there = PolicyRef.of("candidate", Artifact(uri="nemo://models/x", sha256="", kind="adapter"), store)
    asked = request_.model_copy(update={"candidate": there})
    with pytest.raises(EvaluatorFailed, match="stay with the backend"):
        await ask(python("by_weights"), asked, store)
    assert len(await ask(http(endpoint), asked, store)) == ROWS
    assert endpoint.requests[0]["candidate"]["url"] == "nemo://models/x"


async def test_a_function_that_nobody_waits_for_any_more_is_killed_with_its_children(
    request_: EvaluationRequest, store: ArtifactStore, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    slow = request_.model_copy(update={"options": {"pids": str(pids)}})
    asking = asyncio.create_task(ask(python("slow"), slow, store))
    async with asyncio.timeout(180):
        while not pids.exists() or len(pids.read_text().split()) < 2:
            assert not asking.done(), asking.result()
            await asyncio.sleep(0.05)
    started = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    _, alive = await asyncio.to_thread(psutil.wait_procs, started, 90)
    assert alive == []


async def test_a_function_that_takes_too_long_is_given_up(
    request_: EvaluationRequest, store: ArtifactStore
) -> None:
    with pytest.raises(EvaluatorFailed, match="longer than its timeout of 100ms"):
        await ask(python("slow", timeout="100ms"), request_, store)


async def test_an_endpoint_is_told_everything_and_scores(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "open-sesame")
    scores = await ask(http(endpoint, token_env="JUDGE_TOKEN"), request_, store)
    assert len(scores) == ROWS
    assert {score.current for score in scores} == {0.25}
    (body,) = endpoint.requests
    assert body == request_.model_dump(mode="json")
    assert body["candidate"]["url"].startswith("file://")
    assert endpoint.authorizations == ["Bearer open-sesame"]


@pytest.mark.parametrize("fault", [503, 429, 0.5])
async def test_an_endpoint_that_cannot_answer_now_is_asked_again(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint, fault: float
) -> None:
    endpoint.faults = [fault]
    config = http(endpoint, timeout="300ms" if isinstance(fault, float) else "30s", attempts=10)
    assert len(await ask(config, request_, store)) == ROWS
    assert len(endpoint.requests) >= 2


@pytest.mark.parametrize(
    ("faults", "told", "asked"),
    [
        ([500, 502], "HTTP 502", 2),
        ([400], "HTTP 400: injected", 1),
        ([307], "HTTP 307", 2),
        ([b'{"half": '], "makes no sense", 1),
        ([b'{"scores": [{"candidate": 1}]}'], r"scores.0.current: Field required", 1),
        ([b'{"scores": [{"candidate": 1, "current": 2}]}'], "1 scores for 6 items", 1),
        ([b'{"scores": [{"candidate": "NaN", "current": 2}]}'], "finite", 1),
    ],
)
async def test_an_endpoint_that_gives_no_scores_is_told(
    request_: EvaluationRequest,
    store: ArtifactStore,
    endpoint: Endpoint,
    faults: list[int | bytes | float],
    told: str,
    asked: int,
) -> None:
    endpoint.faults = [*faults, *faults]
    with pytest.raises(EvaluatorFailed, match=told):
        await ask(http(endpoint, attempts=2), request_, store)
    assert len(endpoint.requests) == asked


async def test_an_endpoint_that_never_answers_is_given_up(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint
) -> None:
    endpoint.faults = [60.0] * 2
    with pytest.raises(EvaluatorFailed, match="no answer within 200ms"):
        await ask(http(endpoint, timeout="200ms", attempts=2), request_, store)


async def test_an_endpoint_that_is_not_there_is_told(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint
) -> None:
    config = http(endpoint, attempts=1).model_copy(update={"url": "http://127.0.0.1:9/score"})
    with pytest.raises(EvaluatorFailed, match="ConnectError"):
        await ask(config, request_, store)


async def test_the_token_stays_a_secret(
    request_: EvaluationRequest, store: ArtifactStore, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluatorFailed, match="no JUDGE_TOKEN"):
        await ask(http(endpoint, token_env="JUDGE_TOKEN"), request_, store)
    assert endpoint.requests == []
    monkeypatch.setenv("JUDGE_TOKEN", "open-sesame-please")
    endpoint.faults = [401]
    with pytest.raises(EvaluatorFailed) as failure:
        await ask(http(endpoint, token_env="JUDGE_TOKEN"), request_, store)
    assert "HTTP 401" in str(failure.value)
    assert "open-sesame" not in str(failure.value)


def test_items_are_the_first_rows_that_can_be_read(store: ArtifactStore) -> None:
    files = [put_rows(store, rows(4, seed=seed)) for seed in range(2)]
    damaged = store.put_bytes(b"no row\n")
    files.insert(0, DatasetFile(uri=damaged.uri, sha256=damaged.sha256, rows=1, size=damaged.size))
    items = held_out_items(store, files, most=6)
    assert items == [*rows(4), *rows(4, seed=1)[:2]]


def code_of(name: str) -> str:
    """Return the example of docs/models.md that defines a function."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if f"def {name}(" in block]
    assert len(found.splitlines()) <= 30
    return str(found)


@pytest.mark.soak
async def test_the_pages_function_finds_a_trained_version_better(
    request_: EvaluationRequest,
    artifacts: ArtifactStore,
    trl_worker: WorkerHandle,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    install(tmp_path / "site", code_of("exact"), exact="judges:exact")
    learns = make_config(tiny_model, objective=Objective.SFT, learning_rate=5e-3, num_train_epochs=20)
    trained = await result_of(trl_worker, job_spec(artifacts, learns, validation=None))
    candidate = PolicyRef.of("candidate", trained.artifact, artifacts)
    asked = request_.model_copy(
        update={"base_model": str(tiny_model), "candidate": candidate, "current": None, "items": ITEMS}
    )
    scores = await ask(python("exact"), asked, artifacts)
    after, before = (fmean(getattr(one, name) for one in scores) for name in ("candidate", "current"))
    assert after > 0.8
    assert before < 0.5


async def test_the_pages_endpoint_asks_the_served_models(
    request_: EvaluationRequest, store: ArtifactStore
) -> None:
    models = FastAPI()

    @models.post("/v1/completions")
    async def complete(request: Request) -> dict[str, list[dict[str, str]]]:
        body = await request.json()
        texts = {"candidate": "red wine", "current": "red"}
        return {"choices": [{"text": texts[body["model"]]}]}

    page: dict[str, Any] = {}
    exec(code_of("compare"), page)
    with Served(models) as server, Served(page["app"]) as endpoint:
        page["SERVER"] = f"{server.base}/v1/completions"
        asked = request_.model_copy(update={"options": {"words": ["red", "wine"]}})
        config = HTTPEvaluatorConfig(name="judge", url=f"{endpoint.base}/score")
        assert await ask(config, asked, store) == [ItemScore(candidate=1.0, current=0.5)] * ROWS
