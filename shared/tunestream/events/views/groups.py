"""The view of a group of version 2, and the slices of JSON that its rows are spliced from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from typing_extensions import override

from tunestream.events.trajectories import CloseReason
from tunestream.events.views.base import View, view
from tunestream.events.views.slices import FLAT, Count, MessageFields, Name, TokenList, is_utf8

__all__ = ["GroupSlices", "PairView", "PreferenceGroupView"]

_TEXTS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)).difference(b"[]{}"))
_ABSENT: Final = msgspec.Raw(b"")


class _Context(msgspec.Struct, gc=False):
    prompt: str | list[MessageFields]
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)] | None = None
    token_ids: TokenList | None = None


class _Object(msgspec.Struct, gc=False):
    """An object of any fields."""


class _Member(msgspec.Struct, gc=False):
    id: Name
    response: str | MessageFields
    score: float
    index: int | None = None
    context: Count = 0
    policy_version: str | None = None
    token_ids: TokenList | None = None
    metadata: _Object = msgspec.field(default_factory=_Object)


class _Pairing(msgspec.Struct, gc=False):
    exhaustive: bool
    reward: Literal["score_diff", "chosen_score"]


class PairView(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A pair: the positions of its members, and its reward."""

    chosen: Count
    rejected: Count
    reward: float


def _is_flat(value: bytes) -> bool:
    """Return whether well-formed JSON has few levels; code in its texts counts for nothing."""
    brackets = _TEXTS.sub(b"", value).translate(None, _NO_BRACKETS)
    for _ in range(FLAT):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return False


@view("tunestream.trajectory_group.v2")
class PreferenceGroupView(View, frozen=True, gc=False):
    """A :class:`~tunestream.events.groups.PreferenceGroup`: what a curriculum decides by.

    Prompts, responses and tools are checked, and nobody uses them: the gate goes on with the record's bytes.
    """

    run_id: Name
    group_id: Name
    example_id: Name
    turn_id: str
    config_digest: str
    closed_by: CloseReason
    contexts: list[_Context]
    members: list[_Member]
    pairing: _Pairing
    pairs: list[PairView]
    kind: Literal["preference"] = "preference"
    unscored: Count = 0
    skipped: dict[str, int] = {}

    @classmethod
    @override
    def read(cls, value: bytes) -> Self | None:
        if not is_utf8(value):
            return None
        try:
            found = _read_group(value)
        except (msgspec.DecodeError, RecursionError):
            return None
        return found if found._is_flat(value) else None  # noqa: SLF001 - of this class

    def _is_flat(self, value: bytes) -> bool:
        """Return whether nothing in the body is nested so deep that the model might refuse it."""
        expected = 2 * len(self.members) + len(self.pairs)
        return value.count(b"{") + value.count(b"[") - expected <= FLAT or _is_flat(value)

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
