"""The owner of a model process: calls of threads, deadlines and deaths, without a model."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.model_runner import DIE, STALL
from tests.helpers.stages import base_model
from tunestream.experiments.models import ModelWorker, process
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.settings import WorkerSettings

pytestmark = pytest.mark.timeout(300)
Make = Callable[..., ModelWorker]
PROGRAM: Program = replace(process.PROGRAM, runner="tests.helpers.model_runner", needs=())


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    workers: list[ModelWorker] = []
    monkeypatch.setattr(process, "PROGRAM", PROGRAM)

    def _make(**settings: float) -> ModelWorker:
        workers.append(ModelWorker(WorkerSettings.model_validate(settings)))
        return workers[-1]

    yield _make
    for worker in workers:
        worker.close()


def loops() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name == "model-process" and one.is_alive()}


def texts(worker: ModelWorker, *prompts: str) -> list[str]:
    return [answer.text for answer in worker.generate(prompts, {}, seed=0)]


def test_a_model_is_held_for_one_thread_at_a_time(make: Make) -> None:
    worker = make()

    def ask(name: str) -> list[str]:
        with worker.holding(base_model(Path(name))) as notes:
            assert notes == [f"holds {name}"]
            return [text for _ in range(5) for text in texts(worker, "a", "b")]

    names = [f"model-{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, names)) == [[name] * 10 for name in names]
    assert worker.embed("encoder", ["a", "abc"]) == [[1.0], [3.0]]
    with pytest.raises(StageFailed, match="no model is loaded") as failure:
        texts(worker, "a")
    assert failure.value.code == "no_model"


def test_a_process_that_idles_is_kept(make: Make) -> None:
    worker = make(heartbeat_timeout=2.0)  # without a sign of its owner it would end meanwhile
    worker.embed("encoder", ["a"])
    pid = worker.pid
    time.sleep(6)
    worker.embed("encoder", ["a"])
    assert worker.pid == pid is not None


def test_large_embeddings_pass(make: Make) -> None:
    assert len(make().embed("encoder", [""] * 500_000)) == 500_000


def test_a_process_that_died_is_reported_and_started_anew(make: Make) -> None:
    worker = make()
    with pytest.raises(StageFailed) as failure, worker.holding(base_model(Path("m"))):
        texts(worker, DIE)
    assert failure.value.code == "model_process_died"
    assert failure.value.message == (
        "the model process ended with 9; its log on standard error has the reason. "
        "What it had answered is kept: run the stage again to go on"
    )
    worker.embed("encoder", ["a"])
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(StageFailed, match="killed by signal 9; if nobody did it, the machine ran out"):
        texts(worker, STALL)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"stall_timeout": 0.3}, "no answer within 0.3 s .* TUNESTREAM_WORKER_STALL_TIMEOUT higher"),
        ({"silence_timeout": 0.3}, "no sign of life for 0.3 s and was killed; run the stage again"),
    ],
)
def test_a_process_that_stalls_is_killed(make: Make, limit: dict[str, float], message: str) -> None:
    worker = make(**limit)
    with pytest.raises(StageFailed, match=message) as failure, worker.holding(base_model(Path("m"))):
        texts(worker, STALL)
    assert failure.value.code == "model_process_stalled"
    assert worker.pid is None


def test_what_is_not_installed_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROGRAM", replace(PROGRAM, needs=("torch_of_tomorrow",)))
    with pytest.raises(StageFailed, match=r"torch_of_tomorrow: pip install 'tunestream\[experiments\]'"):
        make().embed("encoder", ["a"])


def test_nothing_is_left_of_a_closed_worker(make: Make) -> None:
    before = loops()  # workers of other tests may live
    worker = make()
    worker.close()
    worker.embed("encoder", ["a"])
    worker.close()
    assert worker.pid is None
    assert worker.embed("encoder", ["ab"]) == [[2.0]], "a closed worker starts again when it is asked"
    worker.close()
    worker.close()
    assert loops() == before


def test_closing_breaks_off_a_call_of_another_thread(make: Make) -> None:
    worker, held = make(), threading.Event()

    def stall() -> list[str]:
        with worker.holding(base_model(Path("m"))):
            held.set()
            return texts(worker, STALL)

    with ThreadPoolExecutor(1) as threads:
        stalled = threads.submit(stall)
        assert held.wait(90)
        worker.close()
        with pytest.raises(StageFailed) as failure:
            stalled.result(90)
    assert failure.value.code in {"model_process_died", "no_model"}
    assert worker.pid is None
