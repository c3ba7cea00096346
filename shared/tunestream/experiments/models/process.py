"""The owner's side of the model process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tunestream.events.messages import Prompt
from tunestream.experiments.models.protocol import (
    REPLIES,
    Embed,
    EmbeddedTexts,
    Generate,
    GeneratedAnswer,
    GeneratedAnswers,
    Load,
    ModelLoaded,
    ModelUnloaded,
    Reply,
    Unload,
)
from tunestream.experiments.requests import ModelReference
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.worker.calls import ask
from tunestream.trainers.worker.lines import CallRefused
from tunestream.trainers.worker.process import ChildProcess, WorkerDied, WorkerSilent
from tunestream.trainers.worker.program import Program
from tunestream.trainers.worker.settings import WorkerSettings

__all__ = ["PROGRAM", "ModelWorker", "worker_or_own"]

PROGRAM: Final = Program(
    runner="tunestream.experiments.models.runner",
    serves="calls",
    extra="experiments",
    needs=("torch", "transformers"),
    name="the model process",
    log="its log on standard error",
    longest_message=1 << 30,  # vectors of all texts of a call
)
R = TypeVar("R", ModelLoaded, ModelUnloaded, GeneratedAnswers, EmbeddedTexts)
T = TypeVar("T")


class ModelWorker:
    """A process that generates and embeds. It is started by the first call and ends with its owner.

    Threads may share it: calls run one after the other, and :meth:`holding` keeps a model for one thread.

    Args:
        settings: the deadlines; by default from the environment.
    """

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        self._process: ChildProcess[Reply] = ChildProcess(PROGRAM, REPLIES, self.settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
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
        return self._process.pid

    @contextmanager
    def holding(self, model: ModelReference) -> Iterator[list[str]]:
        """Keep a model loaded while inside; yields notes on what this machine lacks.

        Raises:
            StageFailed: when the model cannot be used.
        """
        with self._lock:
            notes = self._call(Load(model=model), ModelLoaded).notes
            try:
                yield notes
            finally:
                if self.pid is not None:
                    self._call(Unload(), ModelUnloaded)

    def generate(
        self, prompts: Sequence[Prompt], options: Mapping[str, Any], *, seed: int
    ) -> list[GeneratedAnswer]:
        """Answer prompts with the model that is held.

        Raises:
            StageFailed: when the options mean nothing, the memory is too small or the process ended.
        """
        call = Generate(prompts=list(prompts), options=dict(options), seed=seed)
        return self._call(call, GeneratedAnswers).answers

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Turn texts into vectors of one length.

        Raises:
            StageFailed: when the model cannot be used or the process ended.
        """
        return self._call(Embed(model=model, texts=list(texts)), EmbeddedTexts).vectors

    def close(self) -> None:
        """End the process: by closing its line, by force when that takes too long, or a thread still uses it.

        That thread's call fails.
        """
        if not self._lock.acquire(blocking=False):
            if (pid := self.pid) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._lock.acquire()
        try:
            self._end()
        finally:
            self._lock.release()

    def _end(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._await(self._process.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def _call(self, call: Load | Unload | Generate | Embed, expected: type[R]) -> R:
        with self._lock:
            reply = self._ask(call)
        if isinstance(reply, CallRefused):
            raise StageFailed(reply.code, reply.message)
        if not isinstance(reply, expected):
            raise TypeError(f"the model process answered {call.type} with {reply.type}")
        return reply

    def _ask(self, call: Load | Unload | Generate | Embed) -> Reply:
        limits = self.settings
        try:
            return self._await(
                ask(self._process, call, within=limits.stall_timeout, silence=limits.silence_timeout)
            )
        except TrainingFailed as failure:
            raise StageFailed(failure.code, failure.message) from failure
        except WorkerSilent as death:
            raise StageFailed("model_process_stalled", f"{death}; run the stage again") from death
        except WorkerDied as death:
            message = f"{death}. What it had answered is kept: run the stage again to go on"
            raise StageFailed("model_process_died", message) from death
        except TimeoutError as error:
            raise StageFailed(
                "model_process_stalled",
                f"the model process gave no answer within {limits.stall_timeout:g} s and was killed; run the "
                "stage again, or set TUNESTREAM_WORKER_STALL_TIMEOUT higher",
            ) from error

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop that the process belongs to; it sends signs of life while no call runs."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run, args=(self._loop,), name="model-process", daemon=True
            )
            self._thread.start()
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except KeyboardInterrupt:
            running.cancel()
            asyncio.run_coroutine_threadsafe(self._process.kill(), self._loop).result()
            raise


@contextmanager
def worker_or_own(worker: ModelWorker | None) -> Iterator[ModelWorker]:
    """Yield the worker, or one that ends with the block."""
    if worker is not None:
        yield worker
        return
    with ModelWorker() as own:
        yield own


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped."""
    try:
        loop.run_forever()
    finally:
        loop.close()
