"""A tiny Llama with a chat template, written without torch, and a task that it can learn."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from tunestream.events.dataset import EpisodeRow, PreferenceRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole

WARM, COLD = "abcd", "efgh"
WORDS = ["<pad>", "<unk>", "<end>", "<user>", "<assistant>", *WARM, *COLD, "0", "1", "2", "3", "red", "blue"]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
UNTRAINED = -math.log(len(WORDS))  # nats
HIDDEN, INNER, LAYERS = 64, 64, 1  # 4-bit quantisation needs rows of 64


def write_tiny_model(folder: Path, *, chat: bool = True, blank: bool = False) -> Path:
    """Write model and tokenizer to ``folder`` (about 30,000 weights, the same at every call).

    A ``blank`` one finds all words equally likely.
    """
    folder.mkdir(parents=True)
    _write_tokenizer(folder, chat=chat)
    _write_config(folder)
    _write_weights(folder, blank=blank)
    return folder


def rows(count: int, *, seed: int = 0) -> list[PreferenceRow]:
    """Preferences to learn: after a letter of the first half "red" is better, else "blue"."""
    rng = random.Random(seed)
    return [_row(number, rng) for number in range(count)]


def episodes(groups: int, size: int, *, seed: int = 0) -> list[EpisodeRow]:
    """Episodes of two turns, each about a letter; the reward is the share of good answers.

    The recorded log-probabilities are those of a blank model.
    """
    rng = random.Random(seed)
    return [_episode(group, rng) for group in range(groups) for _ in range(size)]


def said(word: str, *, logprob: float = UNTRAINED) -> EpisodeItem:
    """A message of the policy."""
    logprobs = {"content": [{"token": word, "logprob": logprob}]}
    return EpisodeItem(role=EpisodeItemRole.ASSISTANT, content=word, logprobs=logprobs)


def _episode(group: int, rng: random.Random) -> EpisodeRow:
    items, good = [], 0
    for role in (EpisodeItemRole.USER, EpisodeItemRole.ENVIRONMENT):
        letter, answer = rng.choice(WARM + COLD), rng.choice(["red", "blue"])
        items += [EpisodeItem(role=role, content=letter), said(answer)]
        good += answer == ("red" if letter in WARM else "blue")
    return EpisodeRow(group_id=f"g{group}", example_id=f"e{group}", items=items, reward=good / 2)


def _row(number: int, rng: random.Random) -> PreferenceRow:
    letter = rng.choice(WARM + COLD)
    better, worse = ("red", "blue") if letter in WARM else ("blue", "red")
    return PreferenceRow(
        group_id=f"g{number}",
        example_id=f"e{number}",
        turn_id="t",
        prompt=" ".join([letter, *rng.choices("0123", k=4)]),
        chosen=better,
        rejected=worse,
        chosen_score=1.0,
        rejected_score=0.0,
        reward=1.0,
    )


def _write_tokenizer(folder: Path, *, chat: bool) -> None:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **special}
    if chat:
        config["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _write_config(folder: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(WORDS),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))


def _write_weights(folder: Path, *, blank: bool) -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.1, shape).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": normal(len(WORDS), HIDDEN),
        "model.norm.weight": np.full(HIDDEN, 0.0 if blank else 1.0, "f"),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        weights |= {f"{name}.self_attn.{part}_proj.weight": normal(HIDDEN, HIDDEN) for part in "qkvo"}
        weights |= {f"{name}.mlp.{part}_proj.weight": normal(INNER, HIDDEN) for part in ("gate", "up")}
        weights[f"{name}.mlp.down_proj.weight"] = normal(HIDDEN, INNER)
        for norm in ("input", "post_attention"):
            weights[f"{name}.{norm}_layernorm.weight"] = np.ones(HIDDEN, "f")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
