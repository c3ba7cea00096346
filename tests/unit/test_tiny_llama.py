"""A small model is written as transformers reads it, the same for the same seed, without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tunestream.tiny_llama import TinyLlama

MODEL = TinyLlama(
    words=("<pad>", "<unk>", "<end>", "red", "blue"), hidden=8, inner=16, layers=2, heads=2, context=32
)


def weights(folder: Path, model: TinyLlama, seed: int = 0) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = load_file(model.write(folder, seed=seed) / "model.safetensors")
    return found


def test_the_seed_determines_the_weights(tmp_path: Path) -> None:
    digests = [
        sha256((MODEL.write(tmp_path / str(number), seed=seed) / "model.safetensors").read_bytes()).digest()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_weights_have_the_shapes_that_the_configuration_names(tmp_path: Path) -> None:
    found = weights(tmp_path, MODEL)
    config = json.loads((tmp_path / "config.json").read_text())
    assert found["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"]) == (5, 8)
    assert found["model.layers.1.mlp.down_proj.weight"].shape == (8, config["intermediate_size"])
    assert len(found) == 2 + 9 * config["num_hidden_layers"]
    assert (config["eos_token_id"], config["pad_token_id"]) == (2, 0)


@pytest.mark.parametrize(("deviation", "expected"), [(0.1, 0.1), (None, 1 / 8)])
def test_weights_are_as_large_as_asked(tmp_path: Path, deviation: float | None, expected: float) -> None:
    found = weights(tmp_path, replace(MODEL, hidden=64, heads=4, deviation=deviation))
    assert found["model.layers.0.self_attn.q_proj.weight"].std() == pytest.approx(expected, rel=0.1)


def test_a_blank_model_finds_all_words_equally_likely(tmp_path: Path) -> None:
    assert not weights(tmp_path, replace(MODEL, blank=True))["model.norm.weight"].any()


def test_the_tokenizer_knows_whole_words(tmp_path: Path) -> None:
    replace(MODEL, special=("<end>",), template="{{ messages }}").write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("red green <end>").ids == [3, 1, 2]
    assert tokenizer.decode([3, 2], skip_special_tokens=True) == "red"
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["eos_token"], settings["chat_template"]) == ("<end>", "{{ messages }}")


def test_a_model_without_a_template_has_none(tmp_path: Path) -> None:
    MODEL.write_tokenizer(tmp_path)
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
