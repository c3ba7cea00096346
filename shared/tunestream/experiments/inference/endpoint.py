"""Answers of an OpenAI-compatible server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tunestream.config.experiment.experiment import ExperimentInferenceConfig
from tunestream.events.messages import Prompt
from tunestream.experiments.inference.options import request_options
from tunestream.experiments.models.protocol import GeneratedAnswer
from tunestream.experiments.requests import ModelReference
from tunestream.experiments.results import TestRow
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.remote import Unavailable, retry_after, retrying

__all__ = ["Endpoint"]

_ANSWER_TIMEOUT: Final = 600.0  # seconds for one answer
_CONNECT_TIMEOUT: Final = 10.0  # seconds
_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_OF_THE_ROW: Final = frozenset({400, 413, 422})  # the prompt is too long, or refused for its content


@dataclass(frozen=True, slots=True)
class _Patience:
    attempts: int = 6
    retry_delay: float = 0.5  # seconds
    retry_max_delay: float = 30.0  # seconds


_PATIENCE: Final = _Patience()


class Endpoint:
    """One model behind a server; use it as ``async with Endpoint.open(...)``.

    Passing faults (no connection, 429, 5xx) are asked again, six times in all, after the time that the
    server names or an exponential one with jitter.
    """

    def __init__(self, client: httpx.AsyncClient, config: ExperimentInferenceConfig, model: str) -> None:
        self._client = client
        self._base = str(config.endpoint)
        self._model = model
        self._options = request_options(config)
        self._samples = config.do_sample

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ExperimentInferenceConfig, model: ModelReference) -> AsyncIterator[Endpoint]:
        """Connect, and have the server load the weights unless it serves their name already.

        Raises:
            StageFailed: when the server or the model cannot be had, or the key is missing.
        """
        limits = httpx.Limits(max_connections=config.batch_size, keepalive_expiry=2.0)
        timeout = httpx.Timeout(_ANSWER_TIMEOUT, connect=_CONNECT_TIMEOUT)
        headers = _authorisation(config)
        async with httpx.AsyncClient(limits=limits, timeout=timeout, headers=headers) as client:
            base = config.endpoint_model or model.base.hf_model_ckpt
            endpoint = cls(client, config, base if model.weights is None else model.name)
            if model.weights is not None:
                await endpoint._serve(str(model.weights.absolute()))
            yield endpoint

    async def ask(self, row: TestRow, seed: int) -> GeneratedAnswer:
        """GeneratedAnswer one row; what the server has against the prompt itself is the answer's error.

        Raises:
            StageFailed: for everything else.
        """
        body = {"model": self._model, "messages": _messages(row.prompt), **self._options}
        if self._samples:
            body["seed"] = _seed_of(row, seed)
        response = await self._post("chat/completions", body)
        if response.status_code in _OF_THE_ROW:
            return GeneratedAnswer(error=f"refused: {_text_of(response)}")
        content = self._check(response)["choices"][0]["message"]["content"]
        return GeneratedAnswer(text=content or "")

    async def _serve(self, folder: str) -> None:
        listed = await self._send("GET", "models", None)
        if any(card["id"] == self._model for card in self._check(listed)["data"]):
            return
        response = await self._post("load_lora_adapter", {"lora_name": self._model, "lora_path": folder})
        if response.is_error:
            raise StageFailed(
                "endpoint_lacks_model",
                f"the server does not serve {self._model!r} and cannot load it from {folder} "
                f"({response.status_code}: {_text_of(response)}); serve the weights under that "
                "name, or leave out inference.endpoint",
            )

    async def _post(self, route: str, body: Mapping[str, Any]) -> httpx.Response:
        return await self._send("POST", route, body)

    async def _send(self, method: str, route: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            return await retrying(_PATIENCE)(self._once, method, f"{self._base}/{route}", body)
        except Unavailable as error:
            raise StageFailed(
                "endpoint_unreachable",
                f"inference.endpoint: {self._base} does not answer: {error}. What it had answered is kept: "
                "run the stage again to go on",
            ) from error

    async def _once(self, method: str, url: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            response = await self._client.request(method, url, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{type(error).__name__} {error}".strip()) from error
        if response.status_code in _PASSING:
            text = f"{response.status_code}: {_text_of(response)}"
            raise Unavailable(text, retry_after=retry_after(response.headers))
        return response

    def _check(self, response: httpx.Response) -> Any:
        if response.is_error:
            remedy = {
                401: "; is the key in the variable that inference.api_key_env names?",
                403: "; is the key in the variable that inference.api_key_env names?",
                404: "; is inference.endpoint_model what the server calls the model?",
            }.get(response.status_code, "")
            text = f"inference.endpoint answered {response.status_code}: {_text_of(response)}{remedy}"
            raise StageFailed("endpoint_refused", text)
        return response.json()


def _authorisation(config: ExperimentInferenceConfig) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise StageFailed(
            "no_api_key", f"inference.api_key_env: the environment variable {config.api_key_env} is not set"
        )
    return {"Authorization": f"Bearer {key}"}


def _messages(prompt: Prompt) -> Sequence[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [message.model_dump(exclude_none=True) for message in prompt]


def _seed_of(row: TestRow, seed: int) -> int:
    """Return a seed of the row alone: neither the order nor a restart changes its answer."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{row.id}".encode()).digest()[:4])


def _text_of(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:500] or response.reason_phrase
