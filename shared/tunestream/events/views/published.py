"""Views of what agents publish of a turn: candidates, whole turns and parts.

Texts, metadata and token ids are in their one spelling; messages and tools are as they came, and are left to
the collector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Self

import msgspec
import orjson
from msgspec import Raw
from pydantic import BaseModel
from typing_extensions import override

from tunestream.events.views.base import View, view
from tunestream.events.views.slices import INT64, Name, are_metadata, is_flat, is_utf8, one_spelling

__all__ = ["PublishedCandidate", "PublishedMember", "PublishedTurn"]

_NONE: Final = Raw(b"null")
_EMPTY: Final = b"{}"
_NO_METADATA: Final = Raw(_EMPTY)
# A turn's candidates repeat its prompt; those of other turns come between them.
_CACHED: Final = 32

_Index = Annotated[int, msgspec.Meta(ge=-INT64, le=INT64 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=INT64 - 1)]


class PublishedMember(msgspec.Struct, frozen=True, gc=False):
    """A candidate as it was published.

    Attributes:
        candidate_id: the agent's name for it.
        response: a text in its one spelling, or a message as it came.
        score: None when it comes later.
        candidate_index: the agent's number for it.
        policy_version: that answered.
        token_ids: of the response.
        metadata: an object in its one spelling.
    """

    candidate_id: str
    response: bytes
    score: float | None
    candidate_index: int | None
    policy_version: str | None
    token_ids: bytes | None
    metadata: bytes


class _Published(View, frozen=True, gc=False):
    @classmethod
    @override
    def read(cls, value: bytes) -> Self | None:
        try:
            return cls.decode(value) if is_utf8(value) else None
        except (ValueError, TypeError, RecursionError):  # the model knows better what is wrong
            return None

    @classmethod
    @override
    def taken(cls, body: BaseModel) -> View | BaseModel:
        return body  # it may have candidates at fault, which no view holds


@view("tunestream.ttc.candidate.v1")
class PublishedCandidate(_Published, frozen=True, gc=False):
    """A :class:`~tunestream.events.ttc.TTCCandidate`; the prompt is as the response."""

    run_id: str
    example_id: str
    turn_id: str
    prompt: bytes
    member: PublishedMember
    expected_candidates: int | None

    @classmethod
    @override
    def decode(cls, value: bytes) -> Self:
        sent = _read_candidate(value)
        member = PublishedMember(
            sent.candidate_id,
            _response(bytes(sent.response)),
            sent.score,
            sent.candidate_index,
            sent.policy_version,
            None,
            _metadata(bytes(sent.metadata)),
        )
        prompt = _prompt(bytes(sent.prompt))
        return cls(sent.run_id, sent.example_id, sent.turn_id, prompt, member, sent.expected_candidates)


@view("tunestream.ttc.turn.v1")
class PublishedTurn(_Published, frozen=True, gc=False):
    """A :class:`~tunestream.events.turns.TTCTurn` without a candidate at fault, as far as fields go."""

    run_id: str
    example_id: str
    turn_id: str
    prompt: bytes
    members: tuple[PublishedMember, ...]
    complete: bool
    expected_candidates: int | None
    tools: bytes | None
    prompt_token_ids: bytes | None

    @classmethod
    @override
    def decode(cls, value: bytes) -> Self:
        sent = _read_turn(value)
        return cls(
            sent.run_id,
            sent.example_id,
            sent.turn_id,
            _prompt(bytes(sent.prompt)),
            tuple(_members(sent.candidates, sent.policy_version)),
            sent.complete,
            sent.expected_candidates,
            _tools(bytes(sent.tools)),
            _tokens(bytes(sent.prompt_token_ids)),
        )


class _Member(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    candidate_id: Name
    response: Raw
    candidate_index: _Index | None = None
    score: float | None = None
    policy_version: str | None = None
    token_ids: Raw = _NONE
    metadata: Raw = _NO_METADATA


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: Name
    prompt: Raw
    candidates: Annotated[list[_Member], msgspec.Meta(min_length=1)]
    tools: Raw = _NONE
    prompt_token_ids: Raw = _NONE
    complete: bool = True
    expected_candidates: _Count | None = None
    policy_version: str | None = None


class _Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: Name
    candidate_id: Name
    prompt: Raw
    response: Raw
    score: float
    candidate_index: _Index | None = None
    expected_candidates: _Count | None = None
    policy_version: str | None = None
    metadata: Raw = _NO_METADATA


_Token = Annotated[int, msgspec.Meta(ge=0, le=INT64 - 1)]
_Tokens = Annotated[list[_Token], msgspec.Meta(min_length=1)]
_Objects = Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]

_read_candidate: Final = msgspec.json.Decoder(_Candidate).decode
_read_turn: Final = msgspec.json.Decoder(_Turn).decode
_read_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_read_objects: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode
_read_tools: Final = msgspec.json.Decoder(_Objects).decode
_read_tokens: Final = msgspec.json.Decoder(_Tokens).decode


def _members(sent: Sequence[_Member], version: str | None) -> list[PublishedMember]:
    """Return candidates; ``version`` is that of those that name none."""
    metadata = [bytes(one.metadata) for one in sent]
    if not are_metadata(metadata):
        metadata = list(map(_metadata, metadata))
    return [_member(one, version, written) for one, written in zip(sent, metadata, strict=True)]


def _member(sent: _Member, version: str | None, metadata: bytes) -> PublishedMember:
    return PublishedMember(
        sent.candidate_id,
        _response(bytes(sent.response)),
        sent.score,
        sent.candidate_index,
        version if sent.policy_version is None else sent.policy_version,
        None if sent.token_ids is _NONE else _tokens(bytes(sent.token_ids)),
        metadata,
    )


def _prompt(written: bytes) -> bytes:
    """Return a prompt; messages are looked at once."""
    if written[:1] == b'"':
        return one_spelling(written)
    _check_messages(written)
    return written


@lru_cache(maxsize=_CACHED)
def _check_messages(written: bytes) -> None:
    """Make sure that a slice is a list of objects.

    Raises:
        ValueError: when it is none, or may be too deep.
    """
    _read_objects(_flat(written))


def _response(written: bytes) -> bytes:
    if written[:1] == b'"':
        return one_spelling(written)
    if written[:1] == b"{":
        _read_object(_flat(written))
    else:
        _read_objects(_flat(written))
    return written


def _metadata(written: bytes) -> bytes:
    if written == b"null":
        return _EMPTY
    return orjson.dumps(_read_object(_flat(written)))


def _tools(written: bytes) -> bytes | None:
    if written == b"null":
        return None
    _read_tools(_flat(written))
    return written


def _tokens(written: bytes) -> bytes | None:
    return None if written == b"null" else orjson.dumps(_read_tokens(written))


def _flat(written: bytes) -> bytes:
    if not is_flat(written):
        raise ValueError("its depth may be refused")
    return written
