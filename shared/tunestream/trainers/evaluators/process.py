"""Evaluators of installed packages, each question in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from typing import Any

from pydantic import ValidationError

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.durations import format_duration
from tunestream.config.run.evaluation import PythonEvaluatorConfig
from tunestream.events.base import Wire
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.request import EvaluationRequest, EvaluatorFailed, check_count
from tunestream.trainers.worker.settings import ENVIRONMENT

__all__ = ["Answer", "Order", "score_in_process"]


class Order(Wire):
    """What the process is to do: one line on its standard input."""

    entry_point: str
    artifacts: str
    scratch: str
    request: EvaluationRequest


class Answer(Wire):
    """What became of it: all that the process writes to its standard output."""

    scores: list[ItemScore] | None = None
    error: str | None = None


async def score_in_process(
    config: PythonEvaluatorConfig, request: EvaluationRequest, store: ArtifactStore
) -> list[ItemScore]:
    """Run the evaluator's function in a new process and return its scores.

    The process is killed, with what it started, when time is out or nobody waits any more; it ends by
    itself when this process dies.

    Raises:
        EvaluatorFailed: when the function is not installed, fails, takes too long, or gives something else
            than one score for each item; or when this machine cannot have the weights.
    """
    for policy in (request.candidate, request.current):
        if policy is not None and not policy.sha256:
            raise EvaluatorFailed(
                f"the weights of version {policy.version} stay with the backend that trained them "
                f"({policy.uri}); have an HTTP evaluator ask that one"
            )
    scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix="tunestream-evaluator-")
    order = Order(entry_point=config.entry_point, artifacts=store.url, scratch=scratch, request=request)
    try:
        async with asyncio.timeout(config.timeout.total_seconds()):
            answer = await _run(order)
    except TimeoutError:
        raise EvaluatorFailed(
            f"it took longer than its timeout of {format_duration(config.timeout)}"
        ) from None
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    if answer.scores is None:
        raise EvaluatorFailed(answer.error or "it gave no scores")
    return check_count(answer.scores, request)


async def _run(order: Order) -> Answer:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tunestream.trainers.evaluators.child",
        stdin=PIPE,
        stdout=PIPE,
        env={**ENVIRONMENT, **os.environ},
        start_new_session=True,
    )
    try:
        output = await _converse(process, order)
        await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    try:
        return Answer.model_validate_json(output)
    except ValidationError:
        return Answer(error=f"its process ended with {process.returncode}; the trainer's log has the reason")


async def _converse(process: Process, order: Order) -> bytes:
    """Send the order and read to the end; the line stays open, by which the process knows that we live."""
    stdin: Any = process.stdin
    stdout: Any = process.stdout
    with contextlib.suppress(ConnectionError):  # a process that died early is told by its silence
        stdin.write(order.to_json() + b"\n")
        await stdin.drain()
    output: bytes = await stdout.read()
    return output
