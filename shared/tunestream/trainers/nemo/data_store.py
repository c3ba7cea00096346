"""The data store: namespaces, and dataset repositories through the Hugging Face interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast

import httpx
from huggingface_hub import CommitOperationAdd, HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from pydantic import SecretStr

from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.remote import Unavailable, by_status, retrying

__all__ = ["DataStore"]

Result = TypeVar("Result")
_EXISTS: Final = frozenset({409, 422})
# The transport errors of the HTTP library that this version of huggingface_hub is built on.
_TRANSPORT = cast("type[Exception]", HfHubHTTPError.__bases__[0])


class DataStore:
    """Every method has a deadline and a bounded number of attempts.

    All raise :class:`Unavailable` when the store cannot answer, and :class:`Refused` when it refuses.

    Args:
        url: of the data store.
        token: sent as a bearer token, unless None.
        settings: deadlines and attempts.
    """

    def __init__(self, url: str, token: SecretStr | None, settings: NeMoSettings) -> None:
        self._url = url
        self._token = token.get_secret_value() if token else None
        self._settings = settings
        # False: when the configuration names no token, none that lies on this machine is sent.
        self._hub = HfApi(endpoint=f"{url}/v1/hf", token=self._token or False)

    async def create_namespace(self, namespace: str) -> None:
        """Create a namespace unless it exists."""
        await retrying(self._settings)(self._create_namespace, namespace)

    async def upload(self, repository: str, files: Mapping[str, bytes], message: str) -> str:
        """Write files to a dataset repository of their own, in one commit.

        Files that are there already are not written again.

        Returns:
            The commit's id.
        """
        return await retrying(self._settings)(
            self._in_thread,
            lambda: self._upload(repository, files, message),
            self._settings.upload_timeout,
        )

    async def ping(self, repository: str) -> None:
        """Ask for a repository, whether or not it exists."""
        await self._in_thread(
            lambda: self._hub.repo_exists(repository, repo_type="dataset"), self._settings.request_timeout
        )

    async def _create_namespace(self, namespace: str) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = httpx.Timeout(self._settings.request_timeout, connect=self._settings.connect_timeout)
        try:
            async with asyncio.timeout(self._settings.request_timeout), httpx.AsyncClient() as client:
                answer = await client.post(
                    f"{self._url}/v1/datastore/namespaces",
                    data={"namespace": namespace},
                    headers=headers,
                    timeout=timeout,
                )
        except (httpx.TransportError, TimeoutError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if not answer.is_success and answer.status_code not in _EXISTS:
            raise by_status(answer.status_code, f"{answer.status_code}: {answer.text}")

    def _upload(self, repository: str, files: Mapping[str, bytes], message: str) -> str:
        self._hub.create_repo(repository, repo_type="dataset", exist_ok=True)
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        commit = self._hub.create_commit(
            repository, additions, repo_type="dataset", revision="main", commit_message=message
        )
        if not isinstance(commit.oid, str) or not commit.oid:
            raise Unavailable("the data store returned no id of the commit")
        return commit.oid

    async def _in_thread(self, work: Callable[[], Result], deadline: float) -> Result:
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.to_thread(self._with_timeout, work)
        except HFValidationError as error:
            raise TrainingFailed(
                "invalid_name", f"namespace or dataset_name cannot be used: {error}"
            ) from error
        except HfHubHTTPError as error:
            raise by_status(error.response.status_code, str(error)) from error
        except (_TRANSPORT, OSError) as error:  # a TimeoutError is an OSError
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the data store's answer makes no sense: {error!r}") from error

    def _with_timeout(self, work: Callable[[], Result]) -> Result:
        """Run in a thread that cannot be stopped from outside: its requests need a deadline."""
        session = get_session()
        if session.timeout.read is None:
            session.timeout = self._settings.request_timeout
        return work()
