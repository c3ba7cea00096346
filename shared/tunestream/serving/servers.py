"""Model servers over HTTP: which adapters they list, and having them load and unload one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

import httpx
from pydantic import BaseModel, ValidationError

from tunestream.config.run.serving import ServingConfig
from tunestream.serving.plan import Load, Loaded, Unload

__all__ = ["ModelServer", "Reason", "ServerFault"]

Reason = Literal["unreachable", "refused", "not_served", "no_weights", "fault"]

# Below uvicorn's 5 s: never write to a connection that the server is closing.
_IDLE_SECONDS: Final = 2.0
_LONGEST_ANSWER: Final = 500  # characters of an answer that are quoted


class ServerFault(Exception):
    """A server does not serve what it should; all of these are tried again.

    Attributes:
        reason: ``unreachable`` (no answer, or 5xx), ``refused`` (it answers with an error), ``not_served``
            (it accepts and lists something else), ``no_weights`` (there is nothing to load), ``fault`` (a bug
            here).
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Routes:
    load: str
    unload: str
    in_place: bool


_ROUTES: Final = {
    "vllm": _Routes("/v1/load_lora_adapter", "/v1/unload_lora_adapter", in_place=True),
    "sglang": _Routes("/load_lora_adapter", "/unload_lora_adapter", in_place=False),
}
_HOW_TO_ENABLE: Final = {
    "vllm": "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
    "sglang": "start it with --enable-lora; is it SGLang?",
}
# How the servers word that nothing is left to do.
_IS_LOADED: Final = ("already been loaded", "already loaded", "already exists")
_IS_GONE: Final = ("cannot be found", "not found", "not loaded", "does not exist")


class _Card(BaseModel):
    id: str
    root: str | None = None


class _Cards(BaseModel):
    data: list[_Card]


class ModelServer:
    """One server.

    Args:
        config: where it is and whose routes it has.
        timeout: seconds for one answer.
    """

    def __init__(self, config: ServingConfig, *, timeout: float) -> None:
        self.config = config
        self._routes = _ROUTES[config.kind]
        limits = httpx.Limits(keepalive_expiry=_IDLE_SECONDS)
        self._http = httpx.AsyncClient(base_url=config.url, timeout=timeout, limits=limits)

    @property
    def in_place(self) -> bool:
        """Whether a name that is loaded may be loaded again with other weights."""
        return self._routes.in_place

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def loaded(self) -> Loaded:
        """Return what the server answers with.

        Raises:
            ServerFault: when it does not list its models.
        """
        answer = await self._ask("GET", "/v1/models")
        if answer.is_error:
            raise ServerFault("refused", f"/v1/models answered {answer.status_code}: {_words(answer)}")
        try:
            cards = _Cards.model_validate_json(answer.content)
        except ValidationError as error:
            raise ServerFault("unreachable", f"/v1/models makes no sense: {_words(answer)}") from error
        return {card.id: card.root for card in cards.data}

    async def perform(self, step: Load | Unload) -> None:
        """Have the server take a step; one that was taken already is fine.

        Raises:
            ServerFault: when it does not.
        """
        if isinstance(step, Load):
            body: dict[str, object] = {"lora_name": step.name, "lora_path": step.path}
            if step.replace:
                body["load_inplace"] = True
            await self._post(self._routes.load, body, done=_IS_LOADED)
        else:
            await self._post(self._routes.unload, {"lora_name": step.name}, done=_IS_GONE)

    async def _post(self, route: str, body: dict[str, object], *, done: tuple[str, ...]) -> None:
        answer = await self._ask("POST", route, body)
        if not answer.is_error:
            return
        words = _words(answer)
        if answer.status_code == 404 and words.strip().lower() == "not found":
            remedy = _HOW_TO_ENABLE[self.config.kind]
            raise ServerFault("refused", f"the server has no {route}: {remedy}")
        if answer.status_code in {400, 404} and any(text in words.lower() for text in done):
            return
        raise ServerFault("refused", f"{route} answered {answer.status_code}: {words}")

    async def _ask(self, method: str, route: str, body: dict[str, object] | None = None) -> httpx.Response:
        try:
            answer = await self._http.request(method, route, json=body, headers=self._headers())
        except httpx.HTTPError as error:
            raise ServerFault("unreachable", f"no answer: {type(error).__name__}: {error}") from error
        if answer.is_server_error or answer.status_code in {408, 429}:
            raise ServerFault("unreachable", f"{route} answered {answer.status_code}: {_words(answer)}")
        if answer.status_code in {401, 403}:
            raise ServerFault("refused", f"{route} answered {answer.status_code}: set api_key_env")
        return answer

    def _headers(self) -> dict[str, str]:
        name = self.config.api_key_env
        if name is None:
            return {}
        if not os.environ.get(name):
            raise ServerFault("refused", f"the environment has no {name}, which api_key_env names")
        return {"Authorization": f"Bearer {os.environ[name]}"}


def _words(answer: httpx.Response) -> str:
    """Return the message of an answer: servers put it in different fields, or send plain text."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    found: object = answer.text
    if isinstance(body, dict):
        error = body.get("error")
        nested = error.get("message") if isinstance(error, dict) else None
        found = nested or body.get("error_message") or body.get("message") or body.get("detail") or found
    return str(found)[:_LONGEST_ANSWER]
