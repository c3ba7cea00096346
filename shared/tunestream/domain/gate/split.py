"""Which prompts are held out from training: the same ones for a run's whole life."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

from tunestream.events.dataset import DatasetRow, EpisodeRow
from tunestream.events.ids import stable_id
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole

__all__ = ["is_held_out", "opening_of", "prompt_name"]

_HASH_HEX = 16
_HASHES = float(1 << 4 * _HASH_HEX)


def is_held_out(run_id: str, prompt: Prompt, fraction: float) -> bool:
    """Return whether a prompt belongs to the validation part.

    The answer depends on the run, the normalised prompt and the fraction alone: a larger fraction holds
    out the same prompts and more. A text prompt counts as one user message; Unicode form and runs of white
    space do not matter.
    """
    name = stable_id("split", run_id, _normalised(prompt))
    return int(name[:_HASH_HEX], 16) < fraction * _HASHES


def opening_of(items: Iterable[EpisodeItem]) -> list[OpenAIMessage]:
    """Return an episode's prompt: the messages before the assistant's first."""
    prompt = []
    for item in items:
        if item.role is EpisodeItemRole.ASSISTANT:
            break
        prompt.append(OpenAIMessage(role=item.role, content=item.content))
    return prompt


def prompt_name(row: DatasetRow) -> str:
    """Return a name that rows of the same normalised prompt share."""
    prompt = opening_of(row.items) if isinstance(row, EpisodeRow) else row.prompt
    return stable_id("prompt", _normalised(prompt))


def _normalised(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return json.dumps([("user", _plain(prompt))])
    return json.dumps([(message.role, _plain(message.content), *_more(message)) for message in prompt])


def _more(message: OpenAIMessage) -> list[dict[str, Any]]:
    """Return what a message has beside role and content; nothing for most, whose names stay as they were."""
    if not isinstance(message, ChatMessage):
        return []
    return [message.model_dump(exclude={"role", "content"})]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
