"""The view of a group of version 2, and the slices of JSON that its rows are spliced from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from typing_extensions import override

from tunestream.events.trajectories import CloseReason
from tunestream.events.views.base import View, view
from tunestream.events.views.slices import (
    FLAT,
    Count,
    MessageFields,
    Name,
    TokenList,
    brackets,
    is_flat,
    is_utf8,
)

__all__ = ["GroupSlices", "PairView", "PreferenceGroupView"]

_TEXTS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)).difference(b"[]{}"))
_ABSENT: Final = msgspec.Raw(b"")
_NO_METADATA: Final = msgspec.Raw(b"{}")


class _Context(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str | list[MessageFields]
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)] | None = None
    token_ids: TokenList | None = None


class _Object(msgspec.Struct, gc=False):
    """An object of any fields."""


class _Member(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: Name
    response: str | MessageFields
    score: float
    index: int | None = None
    context: Count = 0
    policy_version: str | None = None
    token_ids: TokenList | None = None
    metadata: msgspec.Raw = _NO_METADATA


class _Pairing(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    exhaustive: bool
    reward: Literal["score_diff", "chosen_score"]


class PairView(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A pair: the positions of its members, and its reward."""

    chosen: Count
    rejected: Count
    reward: float


def _has_few_levels(value: bytes) -> bool:
    """Return whether well-formed JSON has few levels; code in its texts counts for nothing."""
    if is_flat(value):
        return True
    left = _TEXTS.sub(b"", value).translate(None, _NO_BRACKETS)
    for _ in range(FLAT):
        if not left:
            return True
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    return False


def _are_flat(slices: Sequence[msgspec.Raw]) -> bool:
    """Return whether metadata has few levels; it is counted together, unless that may be all of one slice.

    Raises:
        msgspec.DecodeError: when one is no object.
    """
    together = b"[%b]" % b",".join(slices)
    _read_objects(together)
    return brackets(together) - len(slices) <= FLAT or all(map(_has_few_levels, map(bytes, slices)))


@view("tunestream.trajectory_group.v2")
class PreferenceGroupView(View, frozen=True, forbid_unknown_fields=True, gc=False):
    """A :class:`~tunestream.events.groups.PreferenceGroup`: what a curriculum decides by.

    Fields of a later release are for the model, since their depth is not known.

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
            return found if found._is_flat(value) else None  # noqa: SLF001 - of this class
        except (msgspec.DecodeError, RecursionError):
            return None

    def _is_flat(self, value: bytes) -> bool:
        """Return whether nothing in the body is nested so deep that the model might refuse it."""
        if b"tool_calls" in value or b"\\u" in value or any(context.tools for context in self.contexts):
            return _has_few_levels(value)
        return _are_flat([member.metadata for member in self.members])

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
_read_objects: Final = msgspec.json.Decoder(list[_Object]).decode
_read_slices: Final = msgspec.json.Decoder(GroupSlices).decode
