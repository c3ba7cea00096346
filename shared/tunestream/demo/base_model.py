"""The demo's base model: a tiny Llama that knows the legal moves and nothing else.

Run as a process of its own (it loads torch): ``python -m tunestream.demo.base_model --seed 0 --folder DIR``
prints the folder of the model, made at the first call and found again afterwards.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tunestream.demo.game import legal_moves, prompt, training_boards
from tunestream.tiny_llama import TinyLlama

__all__ = ["BASE", "base_model_folder", "make_base_model"]

END: Final = "<|end|>"
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] + ' <|end|>' }}"
    "{% if not loop.last %}{{ ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' <|assistant|>' }}{% endif %}"
)
VOCABULARY: Final = (
    "<|pad|>", "<|unknown|>", END, "<|system|>", "<|user|>", "<|assistant|>",
    *"123456789", "me", "op", "/", ";", "-", "win", "block",
)  # fmt: skip
SHAPE: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
}
BASE: Final = TinyLlama(
    words=VOCABULARY,
    hidden=SHAPE["hidden_size"],
    inner=SHAPE["intermediate_size"],
    layers=SHAPE["num_hidden_layers"],
    heads=SHAPE["num_attention_heads"],
    context=SHAPE["max_position_embeddings"],
    template=CHAT_TEMPLATE,
    special=tuple(word for word in VOCABULARY if word.startswith("<|")),
    padding="left",
    deviation=SHAPE["initializer_range"],
)
STEPS: Final = 150
BATCH: Final = 128
LEARNING_RATE: Final = 3e-3


def base_model_folder(root: Path, seed: int) -> Path:
    """Name the folder of a seed's base model below ``root``: by the seed and the recipe's digest."""
    rows = [prompt(board) for board in training_boards()]
    recipe = json.dumps([SHAPE, STEPS, BATCH, LEARNING_RATE, VOCABULARY, CHAT_TEMPLATE, rows])
    return root / f"base-{seed}-{sha256(recipe.encode()).hexdigest()[:12]}"


def _untrained(seed: int) -> LlamaForCausalLM:
    """Return the model (about 133,000 parameters) with torch's own random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**BASE.config(), initializer_range=SHAPE["initializer_range"]))


def make_base_model(root: Path, seed: int) -> Path:
    """Return the folder of the base model, trained now if it is not there yet.

    The folder appears whole or not at all, so that a killed run leaves nothing half made.
    """
    folder = base_model_folder(root, seed)
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".base-", dir=root))
        BASE.write_tokenizer(staging)
        model = _untrained(seed)
        _warm_start(model, AutoTokenizer.from_pretrained(staging), random.Random(seed))  # noqa: S311
        model.save_pretrained(staging)
        _publish(staging, folder)
    return folder


def _publish(staging: Path, folder: Path) -> None:
    try:
        staging.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(staging)  # another process made the same model meanwhile


def _warm_start(model: LlamaForCausalLM, tokenizer: Any, rng: random.Random) -> None:
    """Teach the answer's form: one random legal digit and the end, on training boards."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    model.train()
    for _ in range(STEPS):
        inputs, labels = _warm_batch(tokenizer, rng)
        loss = model(input_ids=inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _warm_batch(tokenizer: Any, rng: random.Random) -> tuple[Tensor, Tensor]:
    rows = rng.choices(training_boards(), k=BATCH)
    texts = [
        f"<|user|> {prompt(board)} {END} <|assistant|> {_random_move(board, rng)} {END}" for board in rows
    ]
    inputs = torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])
    labels = inputs.clone()
    labels[:, :-2] = -100  # only the digit and the end are learnt
    return inputs, labels


def _random_move(board: str, rng: random.Random) -> int:
    return rng.choice(legal_moves(board)) + 1


def main() -> None:
    """Make the base model and print its folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    sys.stdout.write(f"{make_base_model(options.folder, options.seed)}\n")


if __name__ == "__main__":
    main()
