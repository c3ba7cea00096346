"""The owner's side of the model process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tunestream.events.trajectories import Prompt
from tunestream.experiments.models.protocol import (
    REPLIES,
    Answer,
    Answers,
    Call,
    Embed,
    Generate,
    Load,
    Loaded,
    Refused,
    Reply,
    Started,
    Unload,
    Vectors,
)
from tunestream.experiments.requests import ModelReference
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.worker.settings import ENVIRONMENT, WorkerSettings

__all__ = ["ModelWorker", "worker_or_own"]

_NEEDED: Final = ("torch", "transformers")
R = TypeVar("R", Loaded, Answers, Vectors)


class ModelWorker:
    """A process that generates and embeds. It is started by the first call and ends with its owner.

    Threads may share it: calls run one after the other, and :meth:`holding` keeps a model for one thread.

    Args:
        settings: the deadlines; by default from the environment.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The living process's id."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @contextmanager
    def holding(self, model: ModelReference) -> Iterator[list[str]]:
        """Keep a model loaded while inside; yields notes on what this machine lacks.

        Raises:
            StageFailed: when the model cannot be used.
        """
        with self._lock:
            notes = self._call(Load(model=model), Loaded).notes
            try:
                yield notes
            finally:
                if self.pid is not None:
                    self._call(Unload(), Loaded)

    def generate(self, prompts: Sequence[Prompt], options: Mapping[str, Any], *, seed: int) -> list[Answer]:
        """Answer prompts with the model that is held.

        Raises:
            StageFailed: when the options mean nothing, the memory is too small or the process ended.
        """
        call = Generate(prompts=list(prompts), options=dict(options), seed=seed)
        return self._call(call, Answers).answers

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Turn texts into vectors of one length.

        Raises:
            StageFailed: when the model cannot be used or the process ended.
        """
        return self._call(Embed(model=model, texts=list(texts)), Vectors).vectors

    def close(self) -> None:
        """End the process: by closing its line, by force when that takes too long."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(self.settings.close_timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _call(self, call: Call, expected: type[R]) -> R:
        with self._lock:
            self._start()
            self._send(call)
            reply = self._receive(self.settings.stall_timeout)
        if isinstance(reply, Refused):
            raise StageFailed(reply.code, reply.message)
        if not isinstance(reply, expected):
            raise TypeError(f"the model process answered {call.type} with {reply.type}")
        return reply

    def _start(self) -> None:
        if self.pid is not None:
            return
        self.close()
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise StageFailed(
                "missing_dependency",
                f"models here need {', '.join(missing)}: pip install 'tunestream[experiments]'",
            )
        self._spawn()
        if not isinstance(self._receive(self.settings.start_timeout), Started):
            raise TypeError("the model process did not begin with its start")

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunestream.experiments.models.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **os.environ},
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._lines), name="model-process", daemon=True
        ).start()

    def _send(self, call: Call) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        # A line that broke means a dead process, which the next read tells with its reason.
        with contextlib.suppress(OSError):
            process.stdin.write(call.to_json() + b"\n")
            process.stdin.flush()

    def _receive(self, timeout: float) -> Reply:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self._kill()
            raise StageFailed(
                "model_process_stalled",
                f"the model process said nothing for {timeout:g} s and was killed; run the stage again, or "
                "set TUNESTREAM_WORKER_STALL_TIMEOUT higher",
            ) from None
        if not line.endswith(b"\n"):
            raise StageFailed("model_process_died", self._epitaph())
        return REPLIES.validate_json(line)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _epitaph(self) -> str:
        process, self._process = self._process, None
        code = process.wait() if process is not None else None
        if code == -9:
            how = "was killed by signal 9; if nobody did it, the machine ran out of memory"
        elif code is not None and code < 0:
            how = f"was ended by signal {-code}"
        else:
            how = f"exited with {code}; its log on standard error has the reason"
        return f"the model process {how}. What it had answered is kept: run the stage again to go on"


@contextmanager
def worker_or_own(worker: ModelWorker | None) -> Iterator[ModelWorker]:
    """Yield the worker, or one that ends with the block."""
    if worker is not None:
        yield worker
        return
    with ModelWorker() as own:
        yield own


def _forward(stream: Any, lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on the lines of a pipe, and at its end one that is not whole."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(b"")
