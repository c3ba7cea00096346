from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.devserver import PROMPT, chat


@pytest.fixture
async def client(policy_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=policy_url, timeout=60) as client:
        yield client


async def ask(client: httpx.AsyncClient, model: str = "player", **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/chat/completions", json=chat(model, **fields))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def post(client: httpx.AsyncClient, route: str, **body: Any) -> httpx.Response:
    return await client.post(f"/v1/{route}", json=body)


async def test_an_adapter_is_swapped_in_and_out_while_the_server_runs(
    client: httpx.AsyncClient, adapter: Callable[[int], Path]
) -> None:
    before = await ask(client, temperature=0)
    for digit in (3, 7):
        name = f"player@v{digit}.0"
        loaded = await post(client, "load_lora_adapter", lora_name=name, lora_path=str(adapter(digit)))
        assert loaded.status_code == 200
        assert loaded.text == f"Success: LoRA adapter '{name}' added successfully."

    answers = await asyncio.gather(*(ask(client, f"player@v{digit}.0", temperature=0) for digit in (3, 7, 3)))
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["3", "7", "3"]
    assert [answer["model"] for answer in answers] == ["player@v3.0", "player@v7.0", "player@v3.0"]
    assert (await ask(client, temperature=0))["choices"] == before["choices"]

    cards = {card["id"]: card["parent"] for card in (await client.get("/v1/models")).json()["data"]}
    assert cards == {"player": None, "player@v3.0": "player", "player@v7.0": "player"}
    for digit in (3, 7):
        gone = await post(client, "unload_lora_adapter", lora_name=f"player@v{digit}.0")
        assert gone.text == f"Success: LoRA adapter 'player@v{digit}.0' removed successfully."
    assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == ["player"]
    assert (await ask(client, temperature=0))["choices"] == before["choices"]


async def test_an_adapter_is_replaced_in_place_only_when_asked(
    client: httpx.AsyncClient, adapter: Callable[[int], Path]
) -> None:
    name, new = "player@1", str(adapter(5))
    await post(client, "load_lora_adapter", lora_name=name, lora_path=str(adapter(2)))
    again = await post(client, "load_lora_adapter", lora_name=name, lora_path=new)
    assert again.status_code == 400
    assert again.json()["error"] == {
        "message": "The lora adapter 'player@1' has already been loaded. "
        "If you want to load the adapter in place, set 'load_inplace' to True.",
        "type": "InvalidUserInput",
        "param": None,
        "code": 400,
    }
    assert (await ask(client, name, temperature=0))["choices"][0]["message"]["content"] == "2"
    await post(client, "load_lora_adapter", lora_name=name, lora_path=new, load_inplace=True)
    assert (await ask(client, name, temperature=0))["choices"][0]["message"]["content"] == "5"
    await post(client, "unload_lora_adapter", lora_name=name)


async def test_a_version_may_be_full_weights(client: httpx.AsyncClient, tmp_path: Path) -> None:
    from tunestream.demo.base_model import BASE

    BASE.write(tmp_path, seed=1)
    await post(client, "load_lora_adapter", lora_name="full", lora_path=str(tmp_path))
    own, base = [await ask(client, name, temperature=0, logprobs=True) for name in ("full", "player")]
    assert own["choices"][0]["logprobs"] != base["choices"][0]["logprobs"]
    assert (await post(client, "unload_lora_adapter", lora_name="full")).status_code == 200


@pytest.mark.parametrize(
    ("route", "body", "status", "kind", "message"),
    [
        ("load_lora_adapter", {"lora_name": "x"}, 400, "InvalidUserInput", "must be provided"),
        ("load_lora_adapter", {"lora_name": "x", "lora_path": "/no"}, 404, "NotFoundError", "No adapter"),
        ("load_lora_adapter", {"lora_name": "player", "lora_path": "/"}, 400, "InvalidUserInput", "base"),
        ("unload_lora_adapter", {}, 400, "InvalidUserInput", "needs to be provided"),
        ("unload_lora_adapter", {"lora_name": "x"}, 404, "NotFoundError", "adapter 'x' cannot be found"),
        ("chat/completions", chat("x"), 404, "NotFoundError", "The model `x` does not exist."),
        ("chat/completions", chat(top_p=0), 400, "BadRequestError", "top_p"),
        ("chat/completions", chat(frequency_penalty=1), 400, "BadRequestError", "frequency_penalty"),
        ("chat/completions", chat(temperature=-1), 400, "BadRequestError", "temperature"),
        ("chat/completions", chat(max_tokens=128), 400, "BadRequestError", "exceeds the context of 128"),
        ("completions", {"model": "x", "prompt": "me"}, 404, "NotFoundError", "model `x` does not exist"),
        ("completions", {"model": "player", "prompt": ""}, 400, "BadRequestError", "needs tokens"),
        ("completions", {"model": "player", "prompt": [99]}, 400, "BadRequestError", "ids below"),
        ("embeddings", {}, 404, "NotFoundError", "Not Found"),
    ],
)  # fmt: skip
async def test_refusals_are_worded_as_vllm_words_them(
    client: httpx.AsyncClient, route: str, body: dict[str, Any], status: int, kind: str, message: str
) -> None:
    response = await client.post(f"/v1/{route}", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (status, status, kind)
    assert message in error["message"]


async def test_an_unfit_adapter_is_refused_and_leaves_the_base_as_it_was(
    client: httpx.AsyncClient, tmp_path: Path, adapter: Callable[[int], Path]
) -> None:
    before = await ask(client, temperature=0, logprobs=True)
    (tmp_path / "adapter_config.json").write_bytes((adapter(1) / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not weights")
    response = await post(client, "load_lora_adapter", lora_name="broken", lora_path=str(tmp_path))
    assert response.status_code == 400
    assert "does not fit player" in response.json()["error"]["message"]
    again = await post(client, "load_lora_adapter", lora_name="broken", lora_path=str(adapter(1)))
    assert again.status_code == 200
    await post(client, "unload_lora_adapter", lora_name="broken")
    after = await ask(client, temperature=0, logprobs=True)
    assert after["choices"] == before["choices"]


async def test_logprobs_report_the_whole_unscaled_distribution(client: httpx.AsyncClient) -> None:
    one, hot = [
        await ask(client, logprobs=True, top_logprobs=20, temperature=temperature, max_tokens=1)
        for temperature in (0, 2)
    ]
    top = one["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    values = [entry["logprob"] for entry in top]
    assert values == sorted(values, reverse=True)
    assert 0.5 < sum(map(math.exp, values)) <= 1.0001
    assert one["choices"][0]["logprobs"]["content"][0]["token"] == top[0]["token"]
    other = hot["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert [entry["logprob"] for entry in other] == pytest.approx(values, abs=1e-4)


async def test_n_answers_are_drawn_and_a_seed_repeats_them(client: httpx.AsyncClient) -> None:
    def texts(body: dict[str, Any]) -> list[str]:
        assert [choice["index"] for choice in body["choices"]] == list(range(16))
        return [choice["message"]["content"] for choice in body["choices"]]

    first, again, other = [texts(await ask(client, n=16, seed=seed)) for seed in (1, 1, 1000)]
    assert first == again != other
    assert len(set(first)) > 1


async def test_answers_end_at_max_tokens_or_at_a_stop_string(client: httpx.AsyncClient) -> None:
    long = (await ask(client, temperature=0, max_tokens=5))["choices"][0]
    assert long["finish_reason"] == "length"  # these random weights go on and on
    words = long["message"]["content"].split()
    short = (await ask(client, temperature=0, max_tokens=5, stop=words[0]))["choices"][0]
    assert len(words) == 5
    assert (short["message"]["content"], short["finish_reason"]) == ("", "stop")


async def test_concurrent_requests_get_their_own_answers(client: httpx.AsyncClient) -> None:
    """Requests of different lengths share batches; padding must not change what is said."""
    prompts = [PROMPT, "me", PROMPT.replace("me", "op"), "1 2 3 / 4 5 6 ; win - block -"] * 8

    async def top(prompt: str) -> list[float]:
        messages = [{"role": "user", "content": prompt}]
        body = await ask(
            client, messages=messages, max_tokens=1, temperature=0, logprobs=True, top_logprobs=3
        )
        entries = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return [entry["logprob"] for entry in entries]

    alone = [await top(prompt) for prompt in prompts[:4]] * 8
    together = await asyncio.gather(*(top(prompt) for prompt in prompts))
    for one, other in zip(alone, together, strict=True):
        assert other == pytest.approx(one, abs=1e-4)


async def test_a_batch_answers_each_conversation_as_it_is_answered_alone(client: httpx.AsyncClient) -> None:
    prompts = [PROMPT, "1 2 3", PROMPT.replace("me", "op")]
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    body = {"model": "player", "messages": conversations, "temperature": 0, "max_tokens": 2}
    batch = (await client.post("/v1/chat/completions/batch", json=body)).json()
    alone = [await ask(client, messages=each, temperature=0, max_tokens=2) for each in conversations]
    assert [choice["index"] for choice in batch["choices"]] == [0, 1, 2]
    assert [choice["message"] for choice in batch["choices"]] == [
        each["choices"][0]["message"] for each in alone
    ]
    assert batch["usage"]["prompt_tokens"] == sum(each["usage"]["prompt_tokens"] for each in alone)


async def test_completions_are_what_a_conversation_written_out_gets(client: httpx.AsyncClient) -> None:
    written = f"<|user|> {PROMPT} <|end|> <|assistant|>"
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 3}
    said = await ask(client, logprobs=True, top_logprobs=2, **options)
    told = await complete(client, prompt=[written, "me"], logprobs=2, **options)
    assert [choice["index"] for choice in told["choices"]] == [0, 1]
    choice, spoken = told["choices"][0], said["choices"][0]
    assert choice["text"] == spoken["message"]["content"]
    content = spoken["logprobs"]["content"]
    assert choice["logprobs"]["tokens"] == [entry["token"] for entry in content]
    assert choice["logprobs"]["token_logprobs"] == pytest.approx([e["logprob"] for e in content], abs=1e-4)
    assert choice["logprobs"]["top_logprobs"][0] == pytest.approx(
        {entry["token"]: entry["logprob"] for entry in content[0]["top_logprobs"]}, abs=1e-4
    )
    assert told["usage"]["completion_tokens"] == 6


async def complete(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await post(client, "completions", model="player", **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_tokens_may_be_named_by_their_ids(client: httpx.AsyncClient) -> None:
    options = {"logprobs": 3, "max_tokens": 4, "temperature": 0}
    texts, ids = [
        (await complete(client, prompt="me 2", return_tokens_as_token_ids=named, **options))["choices"][0]
        for named in (False, True)
    ]
    assert ids["text"] == texts["text"]
    numbers = [int(token.removeprefix("token_id:")) for token in ids["logprobs"]["tokens"]]
    again = await complete(client, prompt=numbers, max_tokens=1)
    assert again["usage"]["prompt_tokens"] == len(numbers)


async def test_top_p_leaves_the_likeliest_tokens_alone(client: httpx.AsyncClient) -> None:
    one = await ask(client, temperature=0, logprobs=True, top_logprobs=20)
    top = one["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    mass, allowed = 0.0, set()
    for entry in top:
        allowed.add(entry["token"])
        mass += math.exp(entry["logprob"])
        if mass >= 0.3:
            break
    drawn = await ask(client, top_p=0.3, n=64, seed=1, logprobs=True)
    words = {choice["logprobs"]["content"][0]["token"] for choice in drawn["choices"]}
    everything = await ask(client, n=64, seed=1, logprobs=True)
    assert words <= allowed
    assert {choice["logprobs"]["content"][0]["token"] for choice in everything["choices"]} > words


async def test_long_answers_are_those_of_the_whole_sequence_run_again(client: httpx.AsyncClient) -> None:
    """The cache of keys and values, and rows that leave the batch, must not change what is said."""
    prompts = [PROMPT, "me", "1 2 3 / 4 5 6", PROMPT.replace("me", "op")]
    lengths = [12, 3, 7, 9]

    async def answer(prompt: str, tokens: int) -> dict[str, Any]:
        body = await complete(client, prompt=prompt, max_tokens=tokens, temperature=0, logprobs=0)
        choice: dict[str, Any] = body["choices"][0]
        return choice

    async def step_by_step(prompt: str, tokens: int) -> list[float]:
        values = []
        for _ in range(tokens):
            choice = await answer(prompt, 1)
            values += choice["logprobs"]["token_logprobs"]
            prompt += " " + choice["logprobs"]["tokens"][0]
        return values

    together = await asyncio.gather(*map(answer, prompts, lengths))
    for prompt, choice in zip(prompts, together, strict=True):
        values = choice["logprobs"]["token_logprobs"]
        assert values == pytest.approx(await step_by_step(prompt, len(values)), abs=1e-3)
