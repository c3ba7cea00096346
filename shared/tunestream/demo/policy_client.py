"""Talking to the policy server, or to vLLM: the two answer alike."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

__all__ = ["Policy", "PolicyClient", "PolicyError", "Sample", "draw_distinct"]

ALTERNATIVES: Final = 20  # the most that OpenAI's route reports
LOOK_SECONDS: Final = 0.05  # between two looks at what is served
IDLE_SECONDS: Final = 2.0  # below uvicorn's 5 s: never write to a connection that it is closing


class PolicyError(RuntimeError):
    """The policy server refused a request."""


@dataclass(slots=True)
class Policy:
    """What agents ask; the updater changes it when a version is served.

    Attributes:
        model: the name in requests.
        version: the model version's id, None for the base model.
    """

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer, with its tokens' log-probabilities as OpenAI's route reports them, where they were asked."""

    text: str
    logprobs: dict[str, Any] | None = None


class PolicyClient:
    """An asynchronous client of one policy server.

    Args:
        url: of the server, without ``/v1``.
        timeout: seconds for one answer.
    """

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        limits = httpx.Limits(
            max_connections=128, max_keepalive_connections=128, keepalive_expiry=IDLE_SECONDS
        )
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def distribution(self, model: str, prompt: str) -> list[tuple[str, float]]:
        """Return the likeliest one-token answers with their log-probabilities."""
        options = {"logprobs": True, "top_logprobs": ALTERNATIVES}
        choices = await self._choices("chat/completions", model, _conversation(prompt), **options)
        entries = choices[0]["logprobs"]["content"][0]["top_logprobs"]
        return [(entry["token"], entry["logprob"]) for entry in entries]

    async def sample(self, model: str, prompt: str, count: int) -> list[Sample]:
        """Draw one-token answers at temperature 1, with replacement, over the whole vocabulary."""
        options = {"n": count, "temperature": 1, "logprobs": True}
        choices = await self._choices("chat/completions", model, _conversation(prompt), **options)
        return [Sample(str(each["message"]["content"]), each["logprobs"]) for each in choices]

    async def greedy(self, model: str, prompts: list[str]) -> list[str]:
        """Return the likeliest one-token answer to each prompt, over the whole vocabulary."""
        conversations = [_conversation(prompt) for prompt in prompts]
        choices = await self._choices("chat/completions/batch", model, conversations)
        return [str(choice["message"]["content"]) for choice in choices]

    async def wait_for(self, model: str) -> None:
        """Wait until the server lists a model; a server that is away may come back."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                listed = (await self._http.get("/v1/models")).raise_for_status().json()
                if any(card["id"] == model for card in listed["data"]):
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def _choices(
        self, route: str, model: str, messages: list[Any], **options: Any
    ) -> list[dict[str, Any]]:
        body = {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0, **options}
        answer = (await self._ask(route, body)).json()
        if answer["model"] != model:
            raise PolicyError(f"{model} was asked and {answer['model']} answered")
        return sorted(answer["choices"], key=lambda choice: int(choice["index"]))

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.1),
        reraise=True,
    )
    async def _ask(self, route: str, body: dict[str, Any]) -> httpx.Response:
        """Post a question, which changes nothing and may be asked again."""
        return await self._post(route, body)

    async def _post(self, route: str, body: dict[str, Any]) -> httpx.Response:
        response = await self._http.post(f"/v1/{route}", json=body)
        if response.is_error:
            raise PolicyError(f"{route} answered {response.status_code}: {response.text}")
        return response


def _conversation(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def draw_distinct(distribution: list[tuple[str, float]], count: int, rng: Random) -> list[str]:
    """Draw different answers without replacement, each with its probability among those left.

    Special tokens (``<|…|>``) are no answers. The order is that of the draw: the first one is a plain
    sample of the policy.
    """
    answers = [(token, logprob) for token, logprob in distribution if not token.startswith("<|")]
    # Adding Gumbel noise and taking the largest is drawing without replacement.
    keyed = [(logprob - math.log(rng.expovariate(1.0)), token) for token, logprob in answers]
    return [token for _, token in sorted(keyed, reverse=True)[:count]]
