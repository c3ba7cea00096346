"""The model process's heavy half: importing it loads torch and transformers."""

from __future__ import annotations

import gc
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import torch

from tunestream.experiments.models.embedding import Embedder
from tunestream.experiments.models.generation import Generator
from tunestream.experiments.models.protocol import (
    CALLS,
    Call,
    Embed,
    EmbeddedTexts,
    Generate,
    GeneratedAnswers,
    Load,
    ModelLoaded,
    ModelUnloaded,
    Reply,
)
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.port import TrainingFailed
from tunestream.trainers.worker.lines import CallRefused

__all__ = ["CALLS", "answer"]


class _Models:
    """Holds at most one model that generates and one that embeds."""

    def __init__(self) -> None:
        self._generator: Generator | None = None
        self._embedder: Embedder | None = None

    def answer(self, call: Call) -> Reply:
        """Answer a call; after a failure the next one can still be answered."""
        try:
            return self._answer(call)
        except StageFailed as failure:
            return CallRefused(code=failure.code, message=failure.message)
        except TrainingFailed as failure:
            return CallRefused(code=failure.code, message=failure.message_in(""))
        except (torch.OutOfMemoryError, MemoryError) as error:
            return CallRefused(code="out_of_memory", message=_smaller(error))
        except Exception as error:  # noqa: BLE001 - the fault is this call's; it is reported, and the log has it
            traceback.print_exc(file=sys.stderr)
            message = f"{type(error).__name__}: {error} (the log on standard error has the traceback)"
            return CallRefused(code="internal", message=message)

    def _answer(self, call: Call) -> Reply:
        match call:
            case Load():
                self._unload()
                self._generator = Generator(call.model)
                return ModelLoaded(notes=self._generator.notes)
            case Generate():
                if self._generator is None:
                    raise StageFailed("no_model", "no model is loaded")
                return GeneratedAnswers(answers=self._generator.answer(call))
            case Embed():
                return EmbeddedTexts(vectors=self._embed(call))
            case _:
                self._unload()
                return ModelUnloaded()

    def _embed(self, call: Embed) -> list[list[float]]:
        if self._embedder is None or self._embedder.name != call.model:
            self._embedder = None
            self._embedder = Embedder(call.model)
        return self._embedder.embed(call.texts)

    def _unload(self) -> None:
        self._generator = self._embedder = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_MODELS: Final = _Models()


def answer(call: Call, scratch: Path) -> Reply:  # noqa: ARG001 - nothing is written
    """Answer a call; after a failure the next one can still be answered."""
    return _MODELS.answer(call)


def _smaller(error: Any) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the model ran out of memory: {text}. Set a smaller inference.batch_size, or model.quantize: true"
