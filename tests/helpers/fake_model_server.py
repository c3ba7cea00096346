"""A model server that loads nothing: the documented answers of vLLM or SGLang, and faults as asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from tunestream.streams.embedded.ports import free_port

__all__ = ["BASE", "FakeModelServer"]

BASE = "base-model"


@dataclass
class FakeModelServer:
    """A server at one address for life: it may end and come back, empty as a new process is.

    Attributes:
        kind: whose routes it has.
        adapters: name → path of what it lists.
        api_key: asked for, unless None.
        statuses: the next answers to POSTs, e.g. [503, 503]; then it answers again.
        lies: takes every load and lists none of them.
        evicts: lists at most so many adapters, the latest ones.
        runtime: has the adapter routes at all.
        reads: whether a path is readable; by default the folder's existence decides.
        asked: every request that came, as "METHOD /path name".
    """

    kind: Literal["vllm", "sglang"] = "vllm"
    adapters: dict[str, str] = field(default_factory=dict)
    api_key: str | None = None
    statuses: list[int] = field(default_factory=list)
    lies: bool = False
    evicts: int | None = None
    runtime: bool = True
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        # None from which outgoing connections are given: who asks while it is away must not take its port.
        self.port = self.port or free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, with nothing loaded."""
        self.adapters.clear()
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=self.port, log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive()

    def stop(self) -> None:
        """End: nobody answers any more."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(90)
        assert not self._thread.is_alive()
        self._server = self._thread = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- the application

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.middleware("http")(self._before)
        app.get("/v1/models")(self._models)
        if self.runtime:
            prefix = "/v1" if self.kind == "vllm" else ""
            app.post(f"{prefix}/load_lora_adapter")(self._load)
            app.post(f"{prefix}/unload_lora_adapter")(self._unload)
        return app

    async def _before(self, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        body = await request.json() if request.method == "POST" else {}
        self.asked.append(f"{request.method} {request.url.path} {body.get('lora_name', '')}".strip())
        self.bodies.append(body)
        if self.api_key and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if request.method == "POST" and self.statuses:
            return self._error(self.statuses.pop(0), "injected")
        return await answer(request)

    async def _models(self) -> Any:
        base = {"id": BASE, "object": "model", "root": "/models/base", "parent": None}
        loaded = [
            {"id": name, "object": "model", "root": path, "parent": BASE}
            for name, path in self.adapters.items()
        ]
        return {"object": "list", "data": [base, *loaded]}

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters and not (self.kind == "vllm" and body.get("load_inplace")):
            return self._error(400, _ALREADY[self.kind].format(name=name))
        if not await asyncio.to_thread(Path(path).is_dir):
            return self._error(*_UNREADABLE[self.kind], path=path)
        if not self.lies:
            self.adapters[name] = path
        while self.evicts is not None and len(self.adapters) > self.evicts:
            del self.adapters[next(iter(self.adapters))]
        if self.kind == "vllm":
            return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")
        return JSONResponse({"success": True, "error_message": "", "loaded_adapters": self.adapters})

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if name not in self.adapters:
            return self._error(*_ABSENT[self.kind], name=name)
        del self.adapters[name]
        if self.kind == "vllm":
            return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")
        return JSONResponse({"success": True, "error_message": "", "loaded_adapters": self.adapters})

    def _error(self, status: int, message: str, **names: str) -> JSONResponse:
        message = message.format(**names)
        if self.kind == "sglang":
            return JSONResponse(
                {"success": False, "error_message": message, "loaded_adapters": self.adapters}, status
            )
        kind = {404: "NotFoundError", 400: "InvalidUserInput"}.get(status, "InternalServerError")
        error = {"message": message, "type": kind, "param": None, "code": status}
        return JSONResponse({"error": error}, status)


_ALREADY = {
    "vllm": "The lora adapter '{name}' has already been loaded. "
    "If you want to load the adapter in place, set 'load_inplace' to True.",
    "sglang": "Failed to load LoRA adapter {name}: it is already loaded",
}
_UNREADABLE = {
    "vllm": (404, "Loading lora failed: No adapter found for {path}"),
    "sglang": (400, "Can't find 'adapter_config.json' at '{path}'"),
}
_ABSENT = {
    "vllm": (404, "The lora adapter '{name}' cannot be found."),
    "sglang": (400, "LoRA with name {name} does not exist"),
}
