"""Rows of a group of version 2, spliced from slices of its JSON."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from pydantic import TypeAdapter

from tunestream.domain.gate.split import is_held_out
from tunestream.events.base import encode_json
from tunestream.events.messages import Prompt, Response, TokenIds, Tools
from tunestream.events.views.groups import GroupSlices, PairView

__all__ = ["Line", "SlicedGroup"]

_PROMPT: Final[TypeAdapter[Prompt]] = TypeAdapter(Prompt)
_RESPONSE: Final[TypeAdapter[Response]] = TypeAdapter(Response)
_TOOLS: Final[TypeAdapter[Tools]] = TypeAdapter(Tools)
_TOKEN_IDS: Final[TypeAdapter[TokenIds]] = TypeAdapter(TokenIds)
_NONE: Final = (b"", b"null")


class Line(NamedTuple):
    """A row as its line of the dataset."""

    text: bytes
    held_out: bool
    policy_version: str | None


class _Context(NamedTuple):
    """What the rows of one context have in common: their JSON up to the responses, and behind them."""

    held_out: bool
    head: bytes
    tail: bytes


class _Member(NamedTuple):
    """What the rows of one member have in common."""

    response: bytes
    score: bytes
    token_ids: bytes


class SlicedGroup:
    """A group whose rows are wanted.

    The bytes of a row are those that its model, a :class:`~tunestream.events.dataset.PreferenceRow`, writes.

    Args:
        group: its slices.
        value: its JSON, which they are slices of.
        fraction: of the run's prompts that are held out.
    """

    def __init__(self, group: GroupSlices, value: bytes, fraction: float) -> None:
        self._group = group
        self._fraction = fraction
        # A text has one spelling but for these: other writers may escape more than they have to.
        self._plain = b"\\u" not in value and b"\\/" not in value
        self._contexts: dict[int, _Context] = {}
        self._members: dict[int, _Member] = {}
        self._order: dict[str, int] = {}
        for member in group.members:
            if member.policy_version is not None:
                self._order.setdefault(member.policy_version, len(self._order))

    def line(self, pair: PairView) -> Line:
        """Return the row of a pair."""
        members = self._group.members
        best, worst = members[pair.chosen], members[pair.rejected]
        context = self._contexts.get(best.context) or self._context(best.context)
        chosen = self._members.get(pair.chosen) or self._member(pair.chosen)
        rejected = self._members.get(pair.rejected) or self._member(pair.rejected)
        version = self._first_of(best.policy_version, worst.policy_version)
        text = b'%b,"chosen":%b,"rejected":%b,"chosen_score":%b,"rejected_score":%b,"reward":%b%b%b%b%b}' % (
            context.head,
            chosen.response,
            rejected.response,
            chosen.score,
            rejected.score,
            encode_json(pair.reward),
            b"" if version is None else b',"policy_version":' + encode_json(version),
            context.tail,
            chosen.token_ids and b',"chosen_token_ids":' + chosen.token_ids,
            rejected.token_ids and b',"rejected_token_ids":' + rejected.token_ids,
        )
        return Line(text, context.held_out, version)

    def _first_of(self, one: str | None, other: str | None) -> str | None:
        """Return the version that appeared first in the turn, None when none is known."""
        if one == other or other is None:
            return one
        return other if one is None else min(one, other, key=self._order.__getitem__)

    def _context(self, at: int) -> _Context:
        group, found = self._group, self._group.contexts[at]
        prompt = _PROMPT.validate_json(bytes(found.prompt), extra="ignore")
        names = (group.group_id, group.example_id, group.turn_id, prompt)
        head = b'{"group_id":%b,"example_id":%b,"turn_id":%b,"prompt":%b' % tuple(map(encode_json, names))
        tail = b""
        if bytes(found.tools) not in _NONE:
            tail += b',"tools":' + _again(_TOOLS, found.tools)
        if bytes(found.token_ids) not in _NONE:
            tail += b',"prompt_token_ids":' + _again(_TOKEN_IDS, found.token_ids)
        held_out = is_held_out(group.run_id, prompt, self._fraction)
        self._contexts[at] = context = _Context(held_out, head, tail)
        return context

    def _member(self, at: int) -> _Member:
        found = self._group.members[at]
        written = bytes(found.response)
        plain = self._plain and written.startswith(b'"')
        ids = b"" if bytes(found.token_ids) in _NONE else _again(_TOKEN_IDS, found.token_ids)
        response = written if plain else _again(_RESPONSE, found.response)
        self._members[at] = member = _Member(response, encode_json(found.score), ids)
        return member


def _again(adapter: TypeAdapter[Any], written: msgspec.Raw) -> bytes:
    """Return a slice as the model writes it."""
    return encode_json(adapter.validate_json(bytes(written), extra="ignore"))
