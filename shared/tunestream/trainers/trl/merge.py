"""An adapter and its base as one model: ``python -m tunestream.trainers.trl.merge BASE ADAPTER TARGET``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["merge"]


def merge(base: str, adapter: Path, target: Path) -> None:
    """Write weights that stand alone, in the base's precision, with its tokenizer.

    Args:
        base: folder or hub name of the base model.
        adapter: folder of the adapter.
        target: folder to write.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)


if __name__ == "__main__":
    merge(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
