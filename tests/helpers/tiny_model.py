"""A tiny Llama with a chat template, and a task that it can learn."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

from tunestream.events.dataset import EpisodeRow, PreferenceRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.tiny_llama import TinyLlama

WARM, COLD = "abcd", "efgh"
WORDS = ["<pad>", "<unk>", "<end>", "<user>", "<assistant>", *WARM, *COLD, "0", "1", "2", "3", "red", "blue"]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
UNTRAINED = -math.log(len(WORDS))  # nats
MODEL = TinyLlama(
    words=tuple(WORDS),
    hidden=64,  # 4-bit quantisation needs rows of 64
    inner=64,
    layers=1,
    heads=2,
    context=64,
    template=TEMPLATE,
    deviation=0.1,
)


def write_tiny_model(folder: Path, *, chat: bool = True, blank: bool = False) -> Path:
    """Write model and tokenizer to ``folder`` (about 30,000 weights, the same at every call).

    A ``blank`` one finds all words equally likely.
    """
    model = replace(MODEL, template=TEMPLATE if chat else None, blank=blank)
    return model.write(folder, seed=0)


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
