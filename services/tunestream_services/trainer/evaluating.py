"""The scores that the evaluators of a run give a finished version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tunestream.artifacts import ArtifactError, ArtifactStore
from tunestream.config.run.evaluation import EvaluationConfig
from tunestream.domain.gate.split import prompt_name
from tunestream.domain.models.evaluation import OwnScores
from tunestream.events.dataset import DatasetRow
from tunestream.events.ids import version_id
from tunestream.events.models import Artifact, ItemScore
from tunestream.events.training import JobRecord
from tunestream.trainers import JobSpec
from tunestream.trainers.evaluators import EvaluationRequest, EvaluatorFailed, PolicyRef, ask, held_out_items

__all__ = ["ask_evaluators"]

log = structlog.get_logger(__name__)


async def ask_evaluators(
    config: EvaluationConfig,
    job: JobRecord,
    spec: JobSpec,
    made: Artifact,
    store: ArtifactStore,
    report: Callable[[str], Awaitable[None]],
) -> OwnScores:
    """Ask the run's evaluators one after another; a failure is logged and kept as its reason.

    With fewer than ``min_items`` held-out rows nobody is asked.

    Args:
        config: whom to ask.
        job: that made the version.
        spec: as it was trained: its held-out rows, and the version that it was trained from.
        made: the new version's weights.
        store: where rows and weights are.
        report: is given the name of each evaluator before it is asked.
    """
    if not config.evaluators:
        return OwnScores()
    try:
        items = await asyncio.to_thread(held_out_items, store, spec.judging, config.max_items)
    except ArtifactError as error:
        why = f"the held-out rows cannot be read: {error}"
        return OwnScores(scores={evaluator.name: why for evaluator in config.evaluators})
    if len(items) < config.min_items:
        return OwnScores()
    scores: dict[str, list[ItemScore] | str] = {}
    for evaluator in config.evaluators:
        await report(evaluator.name)
        request = _request(job, spec, made, store, items, evaluator.name, evaluator.options)
        try:
            scores[evaluator.name] = await ask(evaluator, request, store)
        except EvaluatorFailed as failure:
            log.warning("evaluator.failed", evaluator=evaluator.name, reason=str(failure))
            scores[evaluator.name] = str(failure)
    return OwnScores(prompts=[prompt_name(item) for item in items], scores=scores)


def _request(
    job: JobRecord,
    spec: JobSpec,
    made: Artifact,
    store: ArtifactStore,
    items: list[DatasetRow],
    evaluator: str,
    options: dict[str, object],
) -> EvaluationRequest:
    current = None
    if job.parent_version is not None and spec.parent is not None:
        current = PolicyRef.of(job.parent_version, spec.parent, store)
    return EvaluationRequest(
        run_id=job.run_id,
        job_id=job.job_id,
        evaluator=evaluator,
        base_model=spec.config.starts_from,
        candidate=PolicyRef.of(version_id(job.run_id, job.job_id), made, store),
        current=current,
        options=options,
        items=items,
    )
