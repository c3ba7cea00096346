"""Rows of a group of version 2, spliced from slices of its JSON."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from pydantic import TypeAdapter

from tunestream.events.base import encode_json
from tunestream.events.messages import Prompt, Response, TokenIds, Tools
from tunestream.events.views.groups import GroupSlices, PairView

__all__ = ["SlicedGroup"]

_PROMPT: Final[TypeAdapter[Prompt]] = TypeAdapter(Prompt)
_RESPONSE: Final[TypeAdapter[Response]] = TypeAdapter(Response)
_TOOLS: Final[TypeAdapter[Tools]] = TypeAdapter(Tools)
_TOKEN_IDS: Final[TypeAdapter[TokenIds]] = TypeAdapter(TokenIds)
_NONE: Final = (b"", b"null")


class SlicedGroup:
    """A group whose rows are wanted.

    The bytes of a row are those that the row's model writes.

    Args:
        group: its slices.
        value: its JSON, which they are slices of.
    """

    def __init__(self, group: GroupSlices, value: bytes) -> None:
        self._group = group
        # A text has one spelling but for these: other writers may escape more than they have to.
        self._plain = b"\\u" not in value and b"\\/" not in value
        self.run_id = group.run_id
        self.pairs = group.pairs
        versions = [one.policy_version for one in group.members if one.policy_version is not None]
        self._order = {version: at for at, version in reversed(list(enumerate(versions)))}
        self._prompts: dict[int, Prompt] = {}
        self._heads: dict[int, bytes] = {}
        self._tails: dict[int, bytes] = {}
        self._responses: dict[int, bytes] = {}

    def context_of(self, pair: PairView) -> int:
        """Return the position of the context that a pair's chosen member answered."""
        return self._group.members[pair.chosen].context

    def prompt(self, context: int) -> Prompt:
        """Return the prompt of a context."""
        if context not in self._prompts:
            self._prompts[context] = _PROMPT.validate_json(
                bytes(self._group.contexts[context].prompt), extra="ignore"
            )
        return self._prompts[context]

    def version(self, pair: PairView) -> str | None:
        """Return the version of a pair that appeared first in its turn, None when none is known."""
        chosen, rejected = self._version(pair.chosen), self._version(pair.rejected)
        if chosen == rejected or rejected is None:
            return chosen
        if chosen is None:
            return rejected
        return min(chosen, rejected, key=self._order.__getitem__)

    def _version(self, member: int) -> str | None:
        return self._group.members[member].policy_version

    def row(self, pair: PairView) -> bytes:
        """Return the JSON of a pair's :class:`~tunestream.events.dataset.PreferenceRow`."""
        members, version = self._group.members, self.version(pair)
        scores = (members[pair.chosen].score, members[pair.rejected].score, pair.reward)
        parts = [
            self._head(self.context_of(pair)),
            b',"chosen":',
            self._response(pair.chosen),
            b',"rejected":',
            self._response(pair.rejected),
            b',"chosen_score":%b,"rejected_score":%b,"reward":%b' % tuple(map(encode_json, scores)),
        ]
        if version is not None:
            parts += (b',"policy_version":', encode_json(version))
        parts += (self._tail(self.context_of(pair)),)
        for name, at in ((b"chosen", pair.chosen), (b"rejected", pair.rejected)):
            if bytes(members[at].token_ids) not in _NONE:
                parts += (b',"%b_token_ids":' % name, _again(_TOKEN_IDS, members[at].token_ids))
        return b"".join([*parts, b"}"])

    def _head(self, context: int) -> bytes:
        """Return a row's first fields, up to the prompt."""
        if context not in self._heads:
            group = self._group
            names = (group.group_id, group.example_id, group.turn_id)
            head = b'{"group_id":%b,"example_id":%b,"turn_id":%b,"prompt":' % tuple(map(encode_json, names))
            self._heads[context] = head + encode_json(self.prompt(context))
        return self._heads[context]

    def _tail(self, context: int) -> bytes:
        """Return what else a row has of its context, mostly nothing."""
        if context not in self._tails:
            found, tail = self._group.contexts[context], b""
            if bytes(found.tools) not in _NONE:
                tail += b',"tools":' + _again(_TOOLS, found.tools)
            if bytes(found.token_ids) not in _NONE:
                tail += b',"prompt_token_ids":' + _again(_TOKEN_IDS, found.token_ids)
            self._tails[context] = tail
        return self._tails[context]

    def _response(self, member: int) -> bytes:
        if member not in self._responses:
            written = self._group.members[member].response
            text = bytes(written)
            well = self._plain and text.startswith(b'"')
            self._responses[member] = text if well else _again(_RESPONSE, written)
        return self._responses[member]


def _again(adapter: TypeAdapter[Any], written: msgspec.Raw) -> bytes:
    """Return a slice as the model writes it."""
    return encode_json(adapter.validate_json(bytes(written), extra="ignore"))
