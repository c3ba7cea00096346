"""One question to one evaluator."""

from __future__ import annotations

from tunestream.artifacts import ArtifactStore
from tunestream.config.run.evaluation import Evaluator, HTTPEvaluatorConfig
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.http import score_over_http
from tunestream.trainers.evaluators.process import score_in_process
from tunestream.trainers.evaluators.request import EvaluationRequest, EvaluatorFailed
from tunestream.trainers.redaction import Redactor

__all__ = ["ask"]


async def ask(config: Evaluator, request: EvaluationRequest, store: ArtifactStore) -> list[ItemScore]:
    """Return an evaluator's scores, one for each item.

    Raises:
        EvaluatorFailed: when it gives none; the message holds no secrets.
    """
    try:
        if isinstance(config, HTTPEvaluatorConfig):
            return await score_over_http(config, request)
        return await score_in_process(config, request, store)
    except EvaluatorFailed as failure:
        raise EvaluatorFailed(Redactor()(str(failure))) from failure
