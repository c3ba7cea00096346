from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base model without its warm start: random weights say all that a server test needs."""
    from tunestream.demo.base_model import make_tokenizer, new_model

    folder = tmp_path_factory.mktemp("tiny")
    new_model(0).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def policy_url(tiny_model: Path) -> Iterator[str]:
    """A real policy server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tunestream.demo.policy_server", "--model", str(tiny_model)]
    process = subprocess.Popen([*command, "--name", "player", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(process, url, deadline=time.monotonic() + 120)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, *, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the policy server ended with {process.returncode}"
        try:
            httpx.get(f"{url}/health", timeout=1).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)  # nothing tells when a foreign process listens
        else:
            return
    pytest.fail("the policy server was not healthy within 120 s")
