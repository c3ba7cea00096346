"""Requests to ART's training service: each has a deadline, and is repeated where that does no harm."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import art
import httpx
import openai
from openai._types import NOT_GIVEN
from pydantic import ValidationError

from tunestream.events.base import Foreign
from tunestream.trainers.art.config import ARTBackendConfig
from tunestream.trainers.art.probe import read_key
from tunestream.trainers.art.settings import ARTSettings
from tunestream.trainers.remote import Unavailable, by_status, retrying

__all__ = ["Event", "NotTaken", "Service"]

Answer = TypeVar("Answer")
_NOT_TAKEN: Final = (429, 503)
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Event(Foreign):
    """What the service reports of a job."""

    id: str
    type: str
    data: dict[str, Any] = {}

    @property
    def numbers(self) -> dict[str, float]:
        """The finite numbers among what it holds."""
        return {
            name: float(value)
            for name, value in self.data.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }

    @property
    def metrics(self) -> dict[str, float]:
        """Its numbers under the names that ART has for them on this machine."""
        from art.serverless.backend import _canonicalize_upstream_metrics  # noqa: PLC0415

        named: dict[str, float] = _canonicalize_upstream_metrics(self.numbers)
        return named


class NotTaken(Unavailable):
    """The service certainly did not do what it was asked for."""


class Service(art.ServerlessBackend):  # type: ignore[misc]
    """ART's client, with deadlines and retries.

    Args:
        backend: where the service is.
        settings: deadlines and attempts.

    Raises:
        TrainingFailed: when the key's variable is not set.
    """

    def __init__(self, backend: ARTBackendConfig, settings: ARTSettings) -> None:
        super().__init__(api_key=read_key(backend), base_url=backend.url)
        self._client.max_retries = 0
        self._client.timeout = httpx.Timeout(settings.request_timeout, connect=settings.connect_timeout)
        self._settings = settings

    async def _get_step(self, model: art.TrainableModel) -> int:
        """Return the model's latest step; ART's own takes nonsense for step 0."""
        return int(await self._ask(lambda: self._latest_step(model)))

    async def _latest_step(self, model: art.TrainableModel) -> int:
        page = await self._client.models.checkpoints.list(limit=1, order="desc", model_id=model.id)
        latest = next(iter(_listed(page)), None)
        step = 0 if latest is None else getattr(latest, "step", None)
        if not isinstance(step, int):
            raise Unavailable("the answer names no step")
        return step

    async def _ask(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request that may be repeated."""
        answer: Answer = await retrying(self._settings)(self._once, send)
        return answer

    async def _once(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await send()
        except openai.APIStatusError as error:
            if error.status_code in _NOT_TAKEN:
                raise NotTaken(str(error)) from error
            raise by_status(error.status_code, str(error)) from error
        except openai.APIConnectionError as error:
            kind = NotTaken if isinstance(error.__cause__, _NEVER_SENT) else Unavailable
            raise kind(f"{type(error).__name__}: {error.__cause__ or error}") from error
        except (openai.APIError, TimeoutError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        except (ValidationError, ValueError, TypeError, AttributeError) as error:  # odd JSON
            raise Unavailable(f"the answer makes no sense: {error}") from error

    async def _list_events(self, remote: str, after: str | None) -> list[Event]:
        page = await self._client.training_jobs.events.list(training_job_id=remote, after=after or NOT_GIVEN)
        _listed(page)
        return [Event.model_validate(event.model_dump(warnings=False)) async for event in page]


def _listed(page: Any) -> list[Any]:
    """Return what a page of a list holds.

    Raises:
        Unavailable: when it is none.
    """
    if not isinstance(getattr(page, "data", None), list):
        raise Unavailable("the answer is no list")
    listed: list[Any] = page.data
    return listed
