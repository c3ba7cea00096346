"""Evaluators of installed packages, each question in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.durations import format_duration
from tunestream.config.run.evaluation import PythonEvaluatorConfig
from tunestream.events.base import Wire
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.request import EvaluationRequest, EvaluatorFailed, check_count
from tunestream.trainers.worker.calls import ask
from tunestream.trainers.worker.lines import CallRefused
from tunestream.trainers.worker.process import ChildProcess, WorkerDied
from tunestream.trainers.worker.program import Program

__all__ = ["EvaluatorCall", "EvaluatorScores", "score_in_process"]

_PROGRAM: Final = Program(
    runner="tunestream.trainers.evaluators.runner",
    serves="call",
    ends_children=True,
    name="its process",
    log="the trainer's log",
    longest_message=1 << 30,
)


class EvaluatorCall(Wire):
    """What the process is to do.

    Attributes:
        entry_point: names the function.
        artifacts: URL of the artifact store.
        request: what the function is asked.
    """

    entry_point: str
    artifacts: str
    request: EvaluationRequest


class EvaluatorScores(Wire):
    """What the function gave."""

    type: Literal["scores"] = "scores"
    scores: list[ItemScore]


_Reply = EvaluatorScores | CallRefused
_REPLIES: Final[TypeAdapter[_Reply]] = TypeAdapter(Annotated[_Reply, Field(discriminator="type")])


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
    call = EvaluatorCall(entry_point=config.entry_point, artifacts=store.url, request=request)
    process = ChildProcess(_PROGRAM, _REPLIES)
    try:
        async with asyncio.timeout(config.timeout.total_seconds()):
            reply = await ask(process, call)
            await process.ended()
    except TimeoutError:
        raise EvaluatorFailed(
            f"it took longer than its timeout of {format_duration(config.timeout)}"
        ) from None
    except WorkerDied as death:
        raise EvaluatorFailed(str(death)) from death
    finally:
        await process.kill()
    if isinstance(reply, CallRefused):
        raise EvaluatorFailed(reply.message)
    return check_count(reply.scores, request)
