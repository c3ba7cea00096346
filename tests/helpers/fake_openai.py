"""An OpenAI-compatible server on this machine: real HTTP, answers by a rule, faults on demand."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeOpenAI:
    """The server's state.

    Attributes:
        models: the names that it serves.
        faults: status, body and headers of the next answers, before it answers well again.
        refuses: prompts that it refuses with 400.
        hold_after: well answered requests after which it keeps askers waiting; None for none.
        asked: bodies of the chat requests, in order of arrival.
        loaded: bodies of the requests to load an adapter.
    """

    models: list[str] = field(default_factory=lambda: ["base"])
    loads: bool = True
    faults: deque[tuple[int, str, dict[str, str]]] = field(default_factory=deque)
    refuses: set[str] = field(default_factory=set)
    hold_after: int | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    loaded: list[dict[str, Any]] = field(default_factory=list)
    together: int = 0
    most_together: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def prompts(self) -> list[str]:
        """Return what was asked."""
        return [body["messages"][-1]["content"] for body in self.asked]

    def wait_for(self, requests: int, *, seconds: float = 240) -> None:
        """Wait until so many chat requests have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= requests, seconds)

    def answer(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        prompt = body["messages"][-1]["content"]
        with self.lock:
            if self.faults:
                status, text, headers = self.faults.popleft()
                return status, {"error": {"message": text}}, headers
        with self.changed:
            number = len(self.asked)
            self.asked.append(body)
            self.changed.notify_all()
        if self.hold_after is not None and number >= self.hold_after:
            self.released.wait(300)
        if body["model"] not in self.models:
            return 404, {"error": {"message": f"no model {body['model']}"}}, {}
        if prompt in self.refuses:
            return 400, {"error": {"message": "the prompt is too long"}}, {}
        text = f"{prompt}!" if body.get("seed") is None else f"{prompt} {body['seed']}"
        return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}, {}


@contextmanager
def fake_openai() -> Iterator[FakeOpenAI]:
    """Serve while inside."""
    state = FakeOpenAI()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()


def _handler(state: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": name} for name in state.models]}, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.keys.append(self.headers.get("Authorization"))
            if self.path == "/v1/load_lora_adapter":
                self._send(*self._load(body), {})
                return
            with state.lock:
                state.together += 1
                state.most_together = max(state.most_together, state.together)
            try:
                answer = state.answer(body)
            finally:
                with state.lock:
                    state.together -= 1
            self._send(*answer)

        def _load(self, body: dict[str, Any]) -> tuple[int, Any]:
            if not state.loads:
                return 404, {"error": {"message": "Not Found"}}
            state.loaded.append(body)
            state.models.append(body["lora_name"])
            return 200, "Success"

        def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
