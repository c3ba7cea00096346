"""A service in one process that fails as it is asked to; what it does is a subclass's."""

from __future__ import annotations

import asyncio
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast
from urllib.parse import unquote

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["FakeService", "Fault", "ServiceState"]


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose ``METHOD /path`` matches ``route``.

    ``kind`` is an HTTP status, or: ``reset`` (the connection breaks before anything is done), or one of
    what goes wrong after the request was done: ``lost`` (the connection breaks), ``slow`` (no answer for
    ``seconds``), ``malformed`` (not JSON), ``nonsense`` (JSON of another shape).
    """

    route: str
    kind: int | str
    times: int = 1
    seconds: float = 30.0


@dataclass
class ServiceState:
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    token: str | None = None


class FakeService(ABC):
    """The service; ``state`` is what it knows and how it behaves, and may be changed at any time."""

    state: Any
    state_type: ClassVar[type[ServiceState]]

    def __init__(self) -> None:
        self.reset()
        self._transports: dict[Any, asyncio.Transport] = {}
        self._release = threading.Event()
        app = FastAPI()
        app.middleware("http")(self._misbehave)
        self._add_routes(app)
        config = uvicorn.Config(
            app, port=0, log_level="error", http=_protocol(self._transports), lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.url = ""

    @abstractmethod
    def _add_routes(self, app: FastAPI) -> None: ...

    def reset(self) -> None:
        self.state = self.state_type()

    def job(self) -> dict[str, Any]:
        """The only job."""
        (job,) = self.state.jobs.values()
        return cast("dict[str, Any]", job)

    def start(self) -> Self:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def stop(self) -> None:
        self._release.set()
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)

    def fail(self, route: str, kind: int | str, times: int = 1, seconds: float = 30.0) -> None:
        self.state.faults.append(Fault(route, kind, times, seconds))

    def asked(self, route: str) -> int:
        """How often a matching request came."""
        return sum(bool(re.search(route, f"{method} {path}")) for method, path, _ in self.state.requests)

    async def _misbehave(
        self, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        state = self.state
        path = unquote(request.url.path)
        state.requests.append((request.method, path, request.headers.get("authorization", "")))
        fault = next((one for one in state.faults if re.search(one.route, f"{request.method} {path}")), None)
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                state.faults.remove(fault)
            return await self._fail(fault, request, answer)
        if state.token and request.headers.get("authorization") != f"Bearer {state.token}":
            return JSONResponse({"detail": "who are you?"}, 401)
        return await answer(request)

    async def _fail(
        self, fault: Fault, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if isinstance(fault.kind, int):
            return JSONResponse({"detail": "injected"}, fault.kind)
        if fault.kind != "reset":
            await answer(request)
        if fault.kind in {"lost", "reset"}:
            self._transports[tuple(request.scope["client"])].abort()
        if fault.kind == "slow":
            await asyncio.to_thread(self._release.wait, fault.seconds)
        if fault.kind == "nonsense":
            return JSONResponse(["surprise"])
        return Response(b'{"half": ', media_type="application/json")


def _protocol(transports: dict[Any, asyncio.Transport]) -> type[H11Protocol]:
    """Remember the connections, so that requests can break their own."""

    class Breakable(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            transports[tuple(transport.get_extra_info("peername"))] = transport
            super().connection_made(transport)

    return Breakable
