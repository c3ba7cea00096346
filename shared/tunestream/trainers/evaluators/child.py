"""The process of an evaluator's function: ``python -m tunestream.trainers.evaluators.child``."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, cast

from tunestream.artifacts import ArtifactError, ArtifactStore
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.process import Answer, Order
from tunestream.trainers.evaluators.request import EvaluationTask, EvaluatorFailed, Policy, PolicyRef

__all__ = ["GROUP", "main"]

GROUP: Final = "tunestream.evaluators"
EXIT_ORPHANED: Final = 3
_LONGEST: Final = 1000  # characters of an error
Function = Callable[[EvaluationTask], Iterable[ItemScore | tuple[float, float]]]


def main() -> None:
    """Take one order from standard input, write the answer to standard output."""
    # Evaluators print: what they write to standard output goes to standard error from here on.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    order = Order.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_owner, daemon=True).start()
    with output:
        output.write(_answer(order).to_json())


def _leave_with_owner() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(EXIT_ORPHANED)


def _answer(order: Order) -> Answer:
    try:
        return Answer(scores=list(_scores(_load(order.entry_point)(_task(order)))))
    except EvaluatorFailed as failure:
        return Answer(error=str(failure))
    except Exception as error:  # noqa: BLE001 - the evaluator's fault, whatever it is; the log has its place
        traceback.print_exc(file=sys.stderr)
        return Answer(error=f"{type(error).__name__}: {error}"[:_LONGEST])


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


def _task(order: Order) -> EvaluationTask:
    request, store, scratch = order.request, ArtifactStore(order.artifacts), Path(order.scratch)
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


if __name__ == "__main__":
    main()
