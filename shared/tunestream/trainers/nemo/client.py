"""Requests to the entity store, the customizer and the deployment service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import httpx
from nemo_microservices import APIConnectionError, APIStatusError, AsyncNeMoMicroservices
from pydantic import BaseModel, SecretStr, ValidationError

from tunestream.trainers.nemo.request import JobRequest, is_of
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.nemo.views import Anything, JobPage, JobView, StatusView
from tunestream.trainers.remote import Refused, Unavailable, by_status, retrying

__all__ = ["CustomizerClient"]

View = TypeVar("View", bound=BaseModel)
Send = Callable[[AsyncNeMoMicroservices], Awaitable[object]]
_PAGE: Final = 100  # jobs
_MAX_PAGES: Final = 1000


class CustomizerClient:
    """The services behind one host. Every method has a deadline and a bounded number of attempts.

    All raise :class:`Unavailable` when a service cannot answer, and :class:`Refused` when it refuses.

    Args:
        url: of the services.
        token: sent as a bearer token, unless None.
        settings: deadlines and attempts.
    """

    def __init__(self, url: str, token: SecretStr | None, settings: NeMoSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else None
        self._client = AsyncNeMoMicroservices(
            base_url=url,
            default_headers=headers,
            max_retries=0,
            timeout=httpx.Timeout(settings.request_timeout, connect=settings.connect_timeout),
        )

    async def call(self, send: Send, view: type[View]) -> View:
        """Send a request that may be repeated, and read its answer."""
        return await retrying(self._settings)(self._once, send, view)

    async def create_or_accept(self, send: Send) -> bool:
        """Create something; False when it exists already."""
        try:
            await self.call(send, Anything)
        except Refused as refused:
            if refused.status == 409:
                return False
            raise
        return True

    async def ping(self, namespace: str) -> None:
        """Ask the customizer for any one job."""
        await self._once(
            lambda client: client.customization.jobs.list(page_size=1, filter={"namespace": namespace}),
            JobPage,
        )

    async def find_job(self, run_id: str, job_id: str, namespace: str) -> JobView | None:
        """Return the latest job that the customizer has for a job."""
        return await retrying(self._settings)(self._find, run_id, job_id, namespace)

    async def ensure_job(self, request: JobRequest, namespace: str, *, attempt: int) -> JobView:
        """Create a job, unless it was created before.

        A failed or cancelled one of an earlier attempt does not count. An attempt to create a job whose
        answer was lost is looked for before the next one.
        """
        return await retrying(self._settings)(self._find_or_create, request, namespace, attempt)

    async def status(self, remote: str) -> StatusView:
        """Return how far the customizer's job is."""
        return await self.call(lambda client: client.customization.jobs.status(remote), StatusView)

    async def cancel(self, remote: str) -> None:
        """Ask the customizer to end its job."""
        await self.call(lambda client: client.customization.jobs.cancel(remote), Anything)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _find(self, run_id: str, job_id: str, namespace: str) -> JobView | None:
        for page in range(1, _MAX_PAGES + 1):
            found = (await self._once(_list_jobs(namespace, page), JobPage)).data
            for job in found:
                if is_of(job, run_id, job_id):
                    return job
            if not found:
                return None
        raise Unavailable(f"the list of jobs of namespace {namespace!r} has no end")

    async def _find_or_create(self, request: JobRequest, namespace: str, attempt: int) -> JobView:
        found = await self._find(request.run_id, request.job_id, namespace)
        if found is not None and not request.is_replaced(found, attempt):
            return found
        try:
            return await self._once(
                lambda client: client.customization.jobs.create(**request.body(namespace, attempt)), JobView
            )
        except Refused as refused:
            if refused.status != 409:
                raise
            raise Unavailable(f"somebody else is creating the same job: {refused}") from refused

    async def _once(self, send: Send, view: type[View]) -> View:
        reply = await self._answer(send)
        content = reply.model_dump(warnings=False) if isinstance(reply, BaseModel) else reply
        try:
            return view.model_validate(content)
        except ValidationError as error:
            raise Unavailable(f"the answer makes no sense: {error}") from error

    async def _answer(self, send: Send) -> object:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await send(self._client)
        except APIStatusError as error:
            raise by_status(error.status_code, str(error)) from error
        except (APIConnectionError, TimeoutError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, AttributeError) as error:  # the client stumbles over odd JSON
            raise Unavailable(f"the answer makes no sense: {error}") from error


def _list_jobs(namespace: str, page: int) -> Send:
    return lambda client: client.customization.jobs.list(
        filter={"namespace": namespace}, page=page, page_size=_PAGE, sort="-created_at"
    )
