"""What the process of an evaluator's function does."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, cast

from pydantic import TypeAdapter

from tunestream.artifacts import ArtifactError, ArtifactStore
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.process import EvaluatorCall, EvaluatorScores
from tunestream.trainers.evaluators.request import EvaluationTask, EvaluatorFailed, Policy, PolicyRef
from tunestream.trainers.worker.lines import CallRefused

__all__ = ["CALLS", "GROUP", "answer"]

GROUP: Final = "tunestream.evaluators"
_LONGEST: Final = 1000  # characters of an error
CALLS: Final = TypeAdapter(EvaluatorCall)
Function = Callable[[EvaluationTask], Iterable[ItemScore | tuple[float, float]]]


def answer(call: EvaluatorCall, scratch: Path) -> EvaluatorScores | CallRefused:
    """Run the function; its faults are the evaluator's."""
    try:
        function, task = _load(call.entry_point), _task(call, scratch)
        return EvaluatorScores(scores=list(_scores(function(task))))
    except EvaluatorFailed as failure:
        return CallRefused(code="evaluator_failed", message=str(failure))
    except Exception as error:  # noqa: BLE001 - any error is the evaluator's; the log has its traceback
        traceback.print_exc(file=sys.stderr)
        message = f"{type(error).__name__}: {error}"[:_LONGEST]
        return CallRefused(code="evaluator_failed", message=message)


def _scores(given: Iterable[ItemScore | tuple[float, float]]) -> Iterator[ItemScore]:
    for one in given:
        if isinstance(one, ItemScore):
            yield one
        else:
            candidate, current = one
            yield ItemScore(candidate=float(candidate), current=float(current))


def _load(name: str) -> Function:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise EvaluatorFailed(
            f"the trainer has no entry point {name!r} in the group {GROUP} (it has {known}); install the "
            "package that brings it beside the trainer"
        )
    return cast("Function", found[name].load())


def _task(call: EvaluatorCall, scratch: Path) -> EvaluationTask:
    request, store = call.request, ArtifactStore(call.artifacts)
    current = request.current
    return EvaluationTask(
        run_id=request.run_id,
        base_model=request.base_model,
        candidate=_fetch(store, request.candidate, scratch / "candidate"),
        current=None if current is None else _fetch(store, current, scratch / "current"),
        items=request.items,
        options=dict[str, Any](request.options),
    )


def _fetch(store: ArtifactStore, policy: PolicyRef, target: Path) -> Policy:
    try:
        folder = store.fetch_directory(policy.uri, policy.sha256, target)
    except ArtifactError as error:
        raise EvaluatorFailed(f"the weights of version {policy.version} cannot be read: {error}") from error
    return Policy(version=policy.version, folder=folder, kind=policy.kind)
