"""Which episodes ART can learn from, and as what it is given them; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tunestream.events.dataset import DatasetRow, EpisodeRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.trainers.collection_rows import SHOWN_AS
from tunestream.trainers.trl.logprobs import Unusable, read_logprobs

__all__ = ["Examined", "Played", "TokenIds", "examine", "ids_as_written", "no_ids"]

TokenIds = Callable[[list[str | None], str], list[int]]
"""Texts of sampled tokens and the message that they make → their ids; raises Unusable."""

_ID: Final = "token_id:"  # how vLLM writes a token with return_tokens_as_token_ids
_NAMED: Final = 5  # left-out episodes that a message names
_WHY: Final = {
    "unreadable": "the line is no row",
    "wrong_kind": "ART learns from episodes, not from pairs or responses",
    "empty_episode": "the episode is empty",
    "bad_start": "the first message must be the user's or the system's",
    "consecutive_assistants": "two messages of the assistant without one between them",
    "no_logprobs": "no message of the assistant has log-probabilities",
    "bad_logprobs": "log-probabilities of an unknown form",
    "logprobs_mismatch": "the tokens are not those of the message",
    "no_token_ids": "have the server write tokens as token_id:N (vLLM: return_tokens_as_token_ids)",
    "bad_tool_calls": "tool_calls must be OpenAI's: a list of functions with a name and arguments as text",
    "zero_variance": "all episodes of the group have the same reward",
}


@dataclass(frozen=True, slots=True)
class Played:
    """One episode as ART is given it.

    Attributes:
        example_id: what it was about.
        messages: OpenAI's messages; those with ``finish_reason`` are choices of the policy.
        tools: that the policy could call, as OpenAI describes them.
        reward: of the whole episode.
    """

    example_id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    reward: float


@dataclass(slots=True)
class Examined:
    """Episodes by group, and why others were left out.

    Attributes:
        groups: each of several episodes with unequal rewards.
        skipped: left out, by reason.
        named: left out for what they are: group, number within it, reason.
    """

    groups: list[list[Played]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Episodes that are trained on."""
        return sum(map(len, self.groups))

    @property
    def summary(self) -> str:
        """What was used and what was not, for people."""
        text = f"{self.used} episodes in {len(self.groups)} groups"
        if not self.skipped:
            return text
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        more = len(self.named) - _NAMED
        names = [*self.named[:_NAMED], *([f"{more} more"] if more > 0 else [])]
        return f"{text}, left out {self.skipped.total()} ({counts})" + (
            f": {', '.join(names)}" if names else ""
        )

    @property
    def remedies(self) -> str:
        """What is wrong with what was left out."""
        return "; ".join(f"{reason}: {_WHY[reason]}" for reason in sorted(self.skipped))


def examine(rows: Iterable[DatasetRow | None], ids: TokenIds) -> Examined:
    """Group the episodes that can be trained on; a bad one is left out alone.

    Args:
        rows: of a dataset; None for a line that is no row.
        ids: gives the ids of sampled tokens.
    """
    found = Examined()
    groups: dict[str, list[Played]] = {}
    numbers: Counter[str] = Counter()
    for row in rows:
        group = row.group_id if isinstance(row, EpisodeRow) else ""
        try:
            groups.setdefault(group, []).append(_played(row, ids))
        except Unusable as reason:
            found.skipped[str(reason)] += 1
            found.named.append(f"{group or 'line'}/{numbers[group]} {reason}")
        numbers[group] += 1
    for members in groups.values():
        if len({one.reward for one in members}) > 1:
            found.groups.append(members)
        elif members:
            found.skipped["zero_variance"] += len(members)
    return found


def ids_as_written(texts: list[str | None], content: str) -> list[int]:
    """Read ids that the server wrote; the text of a message is not needed.

    ART takes other texts for names of the vocabulary, and what it does not find there for the end.

    Raises:
        Unusable: ``no_token_ids`` when a token is written otherwise.
    """
    del content
    numbers = [text.removeprefix(_ID) if text and text.startswith(_ID) else "" for text in texts]
    if not all(number.isdecimal() for number in numbers):
        raise Unusable("no_token_ids")
    return [int(number) for number in numbers]


def no_ids(texts: list[str | None], content: str) -> list[int]:
    """Leave it to somebody with a tokenizer."""
    del content
    return [0] * len(texts)


def _played(row: DatasetRow | None, ids: TokenIds) -> Played:
    if row is None:
        raise Unusable("unreadable")
    if not isinstance(row, EpisodeRow):
        raise Unusable("wrong_kind")
    _check_order(row.items)
    messages = [_message(item, ids) for item in row.items]
    if not any("finish_reason" in message for message in messages):
        raise Unusable("no_logprobs")
    return Played(row.example_id, messages, _tools(row.items[0]), row.reward)


def _check_order(items: Sequence[EpisodeItem]) -> None:
    if not items:
        raise Unusable("empty_episode")
    if items[0].role not in {EpisodeItemRole.USER, EpisodeItemRole.SYSTEM}:
        raise Unusable("bad_start")
    spoke = [item.role is EpisodeItemRole.ASSISTANT for item in items]
    if any(one and following for one, following in pairwise(spoke)):
        raise Unusable("consecutive_assistants")


def _message(item: EpisodeItem, ids: TokenIds) -> dict[str, Any]:
    meta = item.metadata or {}
    role = SHOWN_AS.get(item.role, item.role.value)
    message: dict[str, Any] = {"role": role, "content": item.content}
    if role == "tool":
        message["tool_call_id"] = str(meta.get("tool_call_id", ""))
    if item.role is not EpisodeItemRole.ASSISTANT:
        return message
    if meta.get("tool_calls"):
        message["tool_calls"] = _tool_calls(meta["tool_calls"])
    tokens = read_logprobs(item.logprobs)
    if not tokens:
        return message
    numbers = ids([token.text for token in tokens], item.content)
    content: list[dict[str, Any]] = [
        {"token": f"{_ID}{number}", "logprob": token.logprob, "bytes": None, "top_logprobs": []}
        for number, token in zip(numbers, tokens, strict=True)
    ]
    logprobs = {"content": content, "refusal": None}
    return {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}


def _tool_calls(calls: object) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise Unusable("bad_tool_calls")
    return [_tool_call(call, number) for number, call in enumerate(calls)]


def _tool_call(call: object, number: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise Unusable("bad_tool_calls")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise Unusable("bad_tool_calls")
    function = {"name": name, "arguments": arguments}
    return {"id": str(call.get("id", number)), "type": "function", "function": function}


def _tools(first: EpisodeItem) -> list[dict[str, Any]] | None:
    tools = (first.metadata or {}).get("tools")
    return tools if isinstance(tools, list) and all(isinstance(one, dict) for one in tools) else None
