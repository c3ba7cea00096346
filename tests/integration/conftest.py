"""What all integration tests share: a deployment, and a development server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.deployments import deployment
from tests.helpers.devserver import PROMPT
from tunestream.streams.embedded.ports import free_port

__all__ = ["deployment"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base model without its warm start: random weights say all that a server test needs."""
    from tunestream.demo.base_model import BASE

    return BASE.write(tmp_path_factory.mktemp("tiny"), seed=2)  # begins with words, not special tokens


@pytest.fixture(scope="session")
def policy_url(tiny_model: Path) -> Iterator[str]:
    """A real policy server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tunestream", "serve", str(tiny_model)]
    process = subprocess.Popen([*command, "--name", "player", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(process, url, deadline=time.monotonic() + 240)
        yield url
    finally:
        process.terminate()
        process.wait(90)


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Make an adapter with which the model says one certain digit first."""
    return lambda digit: _adapter_that_says(digit, tiny_model, tmp_path_factory.mktemp("adapter"))


def _adapter_that_says(digit: int, base: Path, folder: Path) -> Path:
    """Train the adapter a few steps on one row; the base stays as it is."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    row = tokenizer(f"<|user|> {PROMPT} <|end|> <|assistant|> {digit} <|end|>", return_tensors="pt")
    labels = row["input_ids"].clone()
    labels[:, :-2] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(input_ids=row["input_ids"], labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(str(folder))
    return folder


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, *, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the policy server ended with {process.returncode}"
        try:
            httpx.get(f"{url}/health", timeout=1).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)  # nothing tells when a foreign process listens
        else:
            return
    pytest.fail("the policy server was not healthy within 240 s")
