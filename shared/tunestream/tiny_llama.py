"""A Llama with a tokenizer of whole words, small enough to train in seconds on a CPU.

The demo, the examples of experiments and the tests begin with one, so that nothing is downloaded.
It is written without torch.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

__all__ = ["TinyLlama"]

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyLlama:
    """The shape and the vocabulary of a model.

    Attributes:
        words: the vocabulary by token id; the first three pad, stand for unknown words, and end a message.
        hidden: width of the hidden states.
        inner: width of the feed-forward layers.
        layers: number of layers.
        heads: attention heads; they divide ``hidden``.
        context: the longest sequence, in tokens.
        template: the chat template, None for a model without one.
        special: words that are left out when special tokens are.
        padding: the side that a batch is padded on.
        deviation: standard deviation of the random weights; None for one by the root of each row's length.
        blank: whether all words are equally likely at the beginning.
    """

    words: tuple[str, ...]
    hidden: int
    inner: int
    layers: int
    heads: int
    context: int
    template: str | None = None
    special: tuple[str, ...] = ()
    padding: Literal["left", "right"] = "right"
    deviation: float | None = None
    blank: bool = False

    def write(self, folder: Path, *, seed: int) -> Path:
        """Write model and tokenizer to a folder, which is made if it is not there.

        Args:
            folder: what transformers' ``from_pretrained`` reads afterwards.
            seed: of the weights; the same seed gives the same bytes.
        """
        self.write_tokenizer(folder)
        (folder / "config.json").write_text(json.dumps(self.config(), indent=2), encoding="utf-8")
        save_file(self._weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer alone."""
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer().save(str(folder / "tokenizer.json"))
        pad, unknown, end = self.words[:3]
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.context,
            "padding_side": self.padding,
            "pad_token": pad,
            "unk_token": unknown,
            "eos_token": end,
        }
        if self.template is not None:
            settings["chat_template"] = self.template
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    def config(self) -> dict[str, Any]:
        """Return the model's ``config.json``, which are also the arguments of a LlamaConfig."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": len(self.words),
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "dtype": "float32",
        }

    def _tokenizer(self) -> Tokenizer:
        ids = {word: number for number, word in enumerate(self.words)}
        tokenizer = Tokenizer(WordLevel(ids, unk_token=self.words[1]))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        tokenizer.add_special_tokens([AddedToken(word, special=True) for word in self.special])
        return tokenizer

    def _weights(self, seed: int) -> Weights:
        """Return the weights by their names; the draws' order is part of what a seed means."""
        rng = np.random.default_rng(seed)

        def normal(*shape: int) -> np.ndarray:
            draws = rng.standard_normal(shape)
            scaled = draws / math.sqrt(shape[1]) if self.deviation is None else draws * self.deviation
            return np.asarray(scaled, dtype=np.float32)

        hidden, inner = self.hidden, self.inner
        weights: Weights = {
            "model.embed_tokens.weight": normal(len(self.words), hidden),
            "model.norm.weight": np.full(hidden, 0.0 if self.blank else 1.0, "f"),
        }
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            weights |= {f"{name}.self_attn.{part}_proj.weight": normal(hidden, hidden) for part in "qkvo"}
            weights |= {f"{name}.mlp.{part}_proj.weight": normal(inner, hidden) for part in ("gate", "up")}
            weights[f"{name}.mlp.down_proj.weight"] = normal(hidden, inner)
            for norm in ("input", "post_attention"):
                weights[f"{name}.{norm}_layernorm.weight"] = np.ones(hidden, "f")
        return weights
