"""Asks a training service whether it answers; nothing is changed."""

from __future__ import annotations

import os

import httpx

from tunestream.trainers.art.config import ARTBackendConfig
from tunestream.trainers.art.errors import as_failure
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import ServiceError, Unavailable, by_status, retrying

__all__ = ["check_service", "read_key"]

_NOBODY = "tunestream-health"  # a model that nobody has: the service answers 404, once it accepts the key


def read_key(backend: ARTBackendConfig) -> str:
    """Return the service's key.

    Raises:
        TrainingFailed: when its variable is not set.
    """
    if backend.api_key_env is None:
        return "default"
    key = os.environ.get(backend.api_key_env)
    if not key:
        message = f"set the environment variable {backend.api_key_env}: it holds the key"
        raise TrainingFailed("token_missing", message)
    return key


async def check_service(backend: ARTBackendConfig, settings: ARTSettings) -> None:
    """Ask for the checkpoints of a model that does not exist.

    Raises:
        TrainingFailed: when the service does not answer, or refuses the key.
    """
    key = read_key(backend)
    try:
        await retrying(settings)(_ask, backend.url, key, settings)
    except ServiceError as error:
        raise as_failure(error) from error


async def _ask(url: str, key: str, settings: ARTSettings) -> None:
    timeout = httpx.Timeout(settings.request_timeout, connect=settings.connect_timeout)
    async with httpx.AsyncClient(timeout=timeout) as client:
        try:
            answer = await client.get(
                f"{url}/preview/models/{_NOBODY}/checkpoints",
                params={"limit": 1},
                headers={"Authorization": f"Bearer {key}"},
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
    if answer.status_code >= 300 and answer.status_code != httpx.codes.NOT_FOUND:
        raise by_status(answer.status_code, answer.text)
