"""Files to begin with: a blank experiment, and a small real task with a model that can learn it.

The task is to convert units asked for in words. The table of conversions is learnt from some ways of asking
and judged on others; the model is a small random Llama that knows none of it, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

__all__ = ["SAMPLES", "conversions", "write_sample"]

_UNITS: Final = (
    ("yards", "feet", 3),
    ("feet", "inches", 12),
    ("weeks", "days", 7),
    ("days", "hours", 24),
    ("hours", "minutes", 60),
    ("pounds", "ounces", 16),
    ("gallons", "quarts", 4),
    ("pairs", "pieces", 2),
)
_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WAYS: Final = (
    "how many {to} are {number} {of} ?",
    "{number} {of} in {to} ?",
    "convert {number} {of} to {to}",
    "what are {number} {of} in {to} ?",
    "please give {number} {of} as {to}",
    "i have {number} {of} . how many {to} is that ?",
    "{to} in {number} {of} ?",
    "tell me {number} {of} in {to}",
    "express {number} {of} as {to} please",
    "{number} {of} make how many {to} ?",
)
_SPECIAL: Final = ("<pad>", "<unk>", "<end>", "<user>", "<assistant>")
_TEMPLATE: Final = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

_BLANK: Final = """\
# An experiment: data becomes a judged model. Every key: docs/experiments.md
save_dir: ./experiments
data:
  path: examples.jsonl                     # json, jsonl, csv, parquet, or a Hugging Face dataset
  prompt: "{question}"                     # columns in braces
  prompt_stub: "{answer}"
  train_size: 0.9
  test_size: 0.1
model: {hf_model_ckpt: facebook/opt-125m}  # a folder, or a name on the Hugging Face hub
lora: {r: 8}                               # r: [8, 16] would train both
training:
  training_args: {num_train_epochs: 1, per_device_train_batch_size: 4, learning_rate: 2.0e-4}
inference: {max_new_tokens: 64}
qa: {llm_metrics: [word_overlap, rouge_score]}
"""

_UNITS_FILE: Final = """\
# Unit conversions in words: the untuned model knows none, the tuned one most of those that it never read.
save_dir: SAVE_DIR
seed: SEED
data:
  path: DATA
  prompt: "{question}"
  prompt_stub: "{answer}"
  train_size: 0.8
  test_size: 0.1
  validation_size: 0.1
model: {hf_model_ckpt: MODEL}
lora: {r: RANK, lora_alpha: 64, lora_dropout: 0.0}
training:
  training_args:
    num_train_epochs: 10
    per_device_train_batch_size: 32
    learning_rate: RATE
    max_grad_norm: 1.0
    logging_steps: 5
inference: {max_new_tokens: 2, batch_size: 64}
qa: {llm_metrics: [word_overlap]}
"""


def write_sample(name: str, folder: Path, *, seed: int = 0) -> list[Path]:
    """Write an example's files to a folder and return their paths, the experiment's file first.

    Args:
        name: one of :data:`SAMPLES`.
        folder: made if it is not there.
        seed: of the data's order and of the model's weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return SAMPLES[name](folder, seed)


def conversions() -> Iterator[dict[str, str]]:
    """Yield every question with its answer."""
    for of, to, factor in _UNITS:
        for number, word in enumerate(_NUMBERS, start=1):
            for way in _WAYS:
                yield {"question": way.format(of=of, to=to, number=word), "answer": str(number * factor)}


def _blank(folder: Path, _seed: int) -> list[Path]:
    file = folder / "experiment.yaml"
    file.write_text(_BLANK, encoding="utf-8")
    return [file]


def _units(folder: Path, seed: int) -> list[Path]:
    return _with_data(folder, seed, rank="32", rate="5.0e-3")


def _grid(folder: Path, seed: int) -> list[Path]:
    written = _with_data(folder, seed, rank="[8, 32]", rate="[1.0e-3, 5.0e-3]")
    with written[0].open("a", encoding="utf-8") as file:
        file.write("ablation: {use_ablate: true, study_name: units, metric: exact_match}\n")
    return written


def _with_data(folder: Path, seed: int, *, rank: str, rate: str) -> list[Path]:
    rows = list(conversions())
    random.Random(seed).shuffle(rows)  # noqa: S311 - repeatable, not secret
    data, model, file = folder / "units.jsonl", folder / "model", folder / "experiment.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = [text for row in rows for text in row.values()]
    _write_model(model, sorted({word for text in texts for word in text.split()}), seed)
    names = {"SAVE_DIR": folder / "experiments", "DATA": data, "MODEL": model}
    text = _UNITS_FILE
    for mark, value in {**names, "SEED": seed, "RANK": rank, "RATE": rate}.items():
        text = text.replace(mark, str(value))
    file.write_text(text, encoding="utf-8")
    return [file, data, model]


def _write_model(folder: Path, words: list[str], seed: int) -> None:
    from tunestream.tiny_llama import TinyLlama  # noqa: PLC0415 - the blank example needs no tokenizer

    TinyLlama(
        words=(*_SPECIAL, *words), hidden=128, inner=256, layers=2, heads=4, context=64, template=_TEMPLATE
    ).write(folder, seed=seed)


SAMPLES: Final[Mapping[str, Callable[[Path, int], list[Path]]]] = MappingProxyType(
    {"blank": _blank, "units": _units, "grid": _grid}
)
"""Name of an example → what writes it."""
