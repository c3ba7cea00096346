"""Evaluators behind an HTTP endpoint."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from tunestream.config.run.durations import format_duration
from tunestream.config.run.evaluation import HTTPEvaluatorConfig
from tunestream.events.models import ItemScore
from tunestream.trainers.evaluators.request import (
    EvaluationRequest,
    EvaluationResponse,
    EvaluatorFailed,
    check_count,
)
from tunestream.trainers.remote import ServiceError, Unavailable, by_status, retrying

__all__ = ["score_over_http"]


@dataclass(frozen=True, slots=True)
class _Patience:
    attempts: int
    retry_delay: float = 0.5
    retry_max_delay: float = 15.0


async def score_over_http(config: HTTPEvaluatorConfig, request: EvaluationRequest) -> list[ItemScore]:
    """Post the request and return the scores; every attempt has the same deadline.

    Raises:
        EvaluatorFailed: when no attempt was answered, or the answer is not one score for each item.
    """
    headers = {"Content-Type": "application/json", **_authorization(config)}
    try:
        async with httpx.AsyncClient(timeout=None, headers=headers) as client:  # noqa: S113 - see _post
            attempts = retrying(_Patience(config.attempts))
            content: bytes = await attempts(_post, client, config, request.to_json())
    except ServiceError as error:
        raise EvaluatorFailed(f"{config.url}: {error}") from error
    try:
        return check_count(EvaluationResponse.model_validate_json(content).scores, request)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise EvaluatorFailed(f"{config.url}: its answer makes no sense: {place}: {first['msg']}") from error


async def _post(client: httpx.AsyncClient, config: HTTPEvaluatorConfig, body: bytes) -> bytes:
    try:
        async with asyncio.timeout(config.timeout.total_seconds()):
            answer = await client.post(config.url, content=body)
    except TimeoutError:
        raise Unavailable(f"no answer within {format_duration(config.timeout)}") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
    if not answer.is_success:
        raise by_status(answer.status_code, f"HTTP {answer.status_code}: {answer.text}")
    return answer.content


def _authorization(config: HTTPEvaluatorConfig) -> dict[str, str]:
    if config.token_env is None:
        return {}
    token = os.environ.get(config.token_env)
    if not token:
        raise EvaluatorFailed(
            f"the trainer's environment has no {config.token_env}; set it to the bearer token"
        )
    return {"Authorization": f"Bearer {token}"}
