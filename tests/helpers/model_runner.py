"""A model process's program without a model: the prompt says what becomes of the call."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from tunestream.experiments.models.protocol import (
    CALLS,
    Call,
    Embed,
    EmbeddedTexts,
    Generate,
    GeneratedAnswer,
    GeneratedAnswers,
    Load,
    ModelLoaded,
    ModelUnloaded,
    Reply,
)
from tunestream.trainers.worker.lines import CallRefused

__all__ = ["CALLS", "DIE", "STALL", "answer"]

DIE: Final = "die"
STALL: Final = "stall"
_held: list[str] = []


def answer(call: Call, scratch: Path) -> Reply:
    """Answer every prompt with the checkpoint of the model that is held; vectors are the texts' lengths."""
    match call:
        case Load():
            _held[:] = [call.model.base.hf_model_ckpt]
            return ModelLoaded(notes=[f"holds {_held[0]}"])
        case Embed():
            return EmbeddedTexts(vectors=[[float(len(text))] for text in call.texts])
        case Generate():
            return _generate(call)
        case _:
            _held.clear()
            return ModelUnloaded()


def _generate(call: Generate) -> Reply:
    if DIE in call.prompts:
        os._exit(9)
    if STALL in call.prompts:
        time.sleep(600)
    if not _held:
        return CallRefused(code="no_model", message="no model is loaded")
    return GeneratedAnswers(answers=[GeneratedAnswer(text=_held[0]) for _ in call.prompts])
