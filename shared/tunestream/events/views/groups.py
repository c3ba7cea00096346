"""The view of a group of version 2, and the slices of JSON that its rows are spliced from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from typing_extensions import override

from tunestream.events.base import IDENTIFIER_LENGTH
from tunestream.events.trajectories import CloseReason
from tunestream.events.views.base import View, view

__all__ = ["GroupSlices", "PairView", "PreferenceGroupView"]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_TokenIds = Annotated[list[_Count], msgspec.Meta(min_length=1)]
# What the model reads of any depth may be refused for it; bodies of so few levels never are.
_FLAT: Final = 90
_TEXTS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)).difference(b"[]{}"))
_ABSENT: Final = msgspec.Raw(b"")


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str | dict[str, Any]


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    function: _Function
    id: str | None = None
    type: Literal["function"] = "function"


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str
    tool_calls: Annotated[list[_Call], msgspec.Meta(min_length=1)] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


class _Context(msgspec.Struct, gc=False):
    prompt: str | list[_Message]
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)] | None = None
    token_ids: _TokenIds | None = None


class _Object(msgspec.Struct, gc=False):
    """An object of any fields."""


class _Member(msgspec.Struct, gc=False):
    id: _Name
    response: str | _Message
    score: float
    index: int | None = None
    context: _Count = 0
    policy_version: str | None = None
    token_ids: _TokenIds | None = None
    metadata: _Object = msgspec.field(default_factory=_Object)


class _Pairing(msgspec.Struct, gc=False):
    exhaustive: bool
    reward: Literal["score_diff", "chosen_score"]


class PairView(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A pair: the positions of its members, and its reward."""

    chosen: _Count
    rejected: _Count
    reward: float


def _is_flat(value: bytes) -> bool:
    """Return whether well-formed JSON has few levels; code in its texts counts for nothing."""
    brackets = _TEXTS.sub(b"", value).translate(None, _NO_BRACKETS)
    for _ in range(_FLAT):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return False


@view("tunestream.trajectory_group.v2")
class PreferenceGroupView(View, frozen=True, gc=False):
    """A :class:`~tunestream.events.groups.PreferenceGroup`: what a curriculum decides by.

    Prompts, responses and tools are checked, and nobody uses them: the gate goes on with the record's bytes.
    """

    run_id: _Name
    group_id: _Name
    example_id: _Name
    turn_id: str
    config_digest: str
    closed_by: CloseReason
    contexts: list[_Context]
    members: list[_Member]
    pairing: _Pairing
    pairs: list[PairView]
    kind: Literal["preference"] = "preference"
    unscored: _Count = 0
    skipped: dict[str, int] = {}

    @classmethod
    @override
    def read(cls, value: bytes) -> Self | None:
        try:
            found = _read_group(value)
            if not value.isascii():
                value.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if found._is_flat(value) else None  # noqa: SLF001 - of this class

    def _is_flat(self, value: bytes) -> bool:
        """Return whether nothing in the body is nested so deep that the model might refuse it."""
        expected = 2 * len(self.members) + len(self.pairs)
        return value.count(b"{") + value.count(b"[") - expected <= _FLAT or _is_flat(value)

    @classmethod
    @override
    def of(cls, body: Any) -> Self:
        found: Self = _read_group(body.to_json())
        return found


class _ContextSlices(msgspec.Struct, gc=False):
    prompt: msgspec.Raw
    tools: msgspec.Raw = _ABSENT
    token_ids: msgspec.Raw = _ABSENT


class _MemberSlices(msgspec.Struct, gc=False):
    response: msgspec.Raw
    score: float
    context: int = 0
    policy_version: str | None = None
    token_ids: msgspec.Raw = _ABSENT


class GroupSlices(msgspec.Struct, gc=False):
    """What rows are made of, as it stands in the bytes of a group of version 2.

    A slice is empty where the body has none.
    """

    run_id: str
    group_id: str
    example_id: str
    turn_id: str
    contexts: list[_ContextSlices]
    members: list[_MemberSlices]
    pairs: list[PairView]

    @classmethod
    def read(cls, value: bytes) -> GroupSlices | None:
        """Return the slices of a body, None when it is another kind of body or one for the model."""
        try:
            return _read_slices(value)
        except msgspec.DecodeError:
            return None


_read_group: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(PreferenceGroupView).decode
_read_slices: Final = msgspec.json.Decoder(GroupSlices).decode
