"""Evaluators for tests: an HTTP endpoint that fails as it is asked to, and packages with entry points."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI, Request, Response

__all__ = ["Endpoint", "Served", "install"]

Score = Callable[[dict[str, Any]], tuple[float, float]]


class Served:
    """An application on a port of its own."""

    def __init__(self, app: FastAPI) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def base(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)


class Endpoint(Served):
    """An evaluator; ``faults`` are the next answers, after which it scores every item.

    A fault is an HTTP status, bytes to answer with, seconds without an answer, or None for none.
    """

    def __init__(self, score: Score = lambda _item: (1.0, 0.0)) -> None:
        self.score = score
        self.faults: list[int | bytes | float | None] = []
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self._release = threading.Event()
        app = FastAPI()
        app.post("/score")(self._answer)
        super().__init__(app)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"{self.base}/score"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release.set()
        super().__exit__(kind, error, trace)

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.authorizations.append(request.headers.get("authorization"))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, float):
            await asyncio.to_thread(self._release.wait, fault)
        if isinstance(fault, int):
            return Response(f"injected; you sent {self.authorizations[-1]}", fault)
        if isinstance(fault, bytes):
            return Response(fault, media_type="application/json")
        pairs = [self.score(item) for item in body["items"]]
        scores = [{"candidate": candidate, "current": current} for candidate, current in pairs]
        return Response(json.dumps({"scores": scores}), media_type="application/json")


def install(folder: Path, code: str, **entry_points: str) -> Path:
    """Put a module ``judges`` and its entry points into a folder for ``PYTHONPATH``, as pip would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "judges.py").write_text(code)
    information = folder / "judges-1.0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: judges\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in entry_points.items()]
    (information / "entry_points.txt").write_text("\n".join(["[tunestream.evaluators]", *lines, ""]))
    return folder
