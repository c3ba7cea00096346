"""Views of what the collector writes of a turn: all of it, a part, or one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

import msgspec
import orjson
from typing_extensions import override

from tunestream.events.views.base import View, view
from tunestream.events.views.slices import (
    Name,
    are_metadata,
    integer,
    is_plain,
    is_prompt,
    is_response,
    is_tokens,
    is_tools,
)

__all__ = ["MemberView", "SingleView", "TurnView", "encode_part"]

_ABSENT: Final = msgspec.Raw(b"null")
_NO_METADATA: Final = msgspec.Raw(b"{}")


class MemberView(msgspec.Struct, frozen=True, gc=False):
    """A candidate. What is no identifier, number or version is a slice of JSON.

    Attributes:
        candidate_id: the deterministic id.
        candidate_index: the agent's number for it, None when it gave none.
        response: a text or a message.
        score: finite; None when it comes later.
        policy_version: that answered, None when unknown.
        token_ids: of the response, None when they did not come.
        raw_metadata: an object.
    """

    candidate_id: str
    candidate_index: int | None
    response: bytes
    score: float | None
    policy_version: str | None = None
    token_ids: bytes | None = None
    raw_metadata: bytes = b"{}"


@view("tunestream.turn.v1")
class TurnView(View, frozen=True, gc=False):
    """A :class:`~tunestream.events.turns.TurnStep`; prompt, tools and token ids are slices of JSON."""

    run_id: str
    example_id: str
    turn_id: str
    prompt: bytes
    candidates: tuple[MemberView, ...]
    complete: bool
    expected_candidates: int | None = None
    tools: bytes | None = None
    prompt_token_ids: bytes | None = None

    @classmethod
    @override
    def read(cls, value: bytes) -> Self | None:
        if not is_plain(value):
            return None
        try:
            body = cls._parse(value)
        except (msgspec.DecodeError, RecursionError):
            return None
        if _write(body) != value:  # fields in another order, twice, or of a later release
            return None
        found = cls._of_parsed(body)
        return found if found.is_canonical() else None

    @classmethod
    @override
    def decode(cls, value: bytes) -> Self:
        return cls._of_parsed(cls._parse(value))

    @classmethod
    def _parse(cls, value: bytes) -> Any:
        return _read_turn(value)

    @classmethod
    def _of_parsed(cls, body: Any) -> Self:
        return cls(
            body.run_id,
            body.example_id,
            body.turn_id,
            bytes(body.prompt),
            tuple([_member(one, _slice(one.token_ids)) for one in body.candidates]),
            body.complete,
            body.expected_candidates,
            _slice(body.tools),
            _slice(body.prompt_token_ids),
        )

    @override
    def is_canonical(self) -> bool:
        members = self.candidates
        return (
            is_prompt(self.prompt)
            and all(map(is_response, [one.response for one in members]))
            and all(map(is_tokens, [one.token_ids for one in members if one.token_ids is not None]))
            and are_metadata([one.raw_metadata for one in members])
            and (self.tools is None or is_tools(self.tools))
            and (self.prompt_token_ids is None or is_tokens(self.prompt_token_ids))
        )


@view("tunestream.candidate.v1")
class SingleView(TurnView, frozen=True, gc=False):
    """A :class:`~tunestream.events.ttc.CandidateStep`, as a turn of one that is not complete."""

    @classmethod
    @override
    def _parse(cls, value: bytes) -> Any:
        return _read_candidate(value)

    @classmethod
    @override
    def _of_parsed(cls, body: Any) -> Self:
        return cls(
            body.run_id,
            body.example_id,
            body.turn_id,
            bytes(body.prompt),
            (_member(body, None),),
            False,
            body.expected_candidates,
        )

    @override
    def is_canonical(self) -> bool:
        return self.candidates[0].response[:1] == b'"' and super().is_canonical()


def encode_part(turn: TurnView, candidates: Sequence[MemberView]) -> bytes:
    """Return the body of a turn record with some of its candidates, as its model would write it."""
    values: dict[str, object] = {
        "run_id": turn.run_id,
        "example_id": turn.example_id,
        "turn_id": turn.turn_id,
        "prompt": orjson.Fragment(turn.prompt),
        "tools": turn.tools and orjson.Fragment(turn.tools),
        "prompt_token_ids": turn.prompt_token_ids and orjson.Fragment(turn.prompt_token_ids),
        "candidates": [_encoded(candidate) for candidate in candidates],
        "complete": turn.complete,
        "expected_candidates": turn.expected_candidates and integer(turn.expected_candidates),
    }
    return orjson.dumps(_present(values))


def _encoded(candidate: MemberView) -> dict[str, object]:
    return _present(
        {
            "candidate_id": candidate.candidate_id,
            "candidate_index": candidate.candidate_index and integer(candidate.candidate_index),
            "response": orjson.Fragment(candidate.response),
            "score": candidate.score,
            "policy_version": candidate.policy_version,
            "token_ids": candidate.token_ids and orjson.Fragment(candidate.token_ids),
            "raw_metadata": orjson.Fragment(candidate.raw_metadata),
        }
    )


def _present(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _member(body: _Member | _Candidate, token_ids: bytes | None) -> MemberView:
    return MemberView(
        body.candidate_id,
        body.candidate_index,
        bytes(body.response),
        body.score,
        body.policy_version,
        token_ids,
        bytes(body.raw_metadata),
    )


def _slice(written: msgspec.Raw) -> bytes | None:
    return None if written is _ABSENT or (found := bytes(written)) == b"null" else found


class _Member(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    candidate_id: Name
    candidate_index: int | None = None
    response: msgspec.Raw
    score: float | None = None
    policy_version: str | None = None
    token_ids: msgspec.Raw = _ABSENT
    raw_metadata: msgspec.Raw = _NO_METADATA


class _Turn(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: str
    prompt: msgspec.Raw
    tools: msgspec.Raw = _ABSENT
    prompt_token_ids: msgspec.Raw = _ABSENT
    candidates: Annotated[list[_Member], msgspec.Meta(min_length=1)]
    complete: bool
    expected_candidates: int | None = None


class _Candidate(msgspec.Struct, kw_only=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: str
    candidate_id: Name
    candidate_index: int | None
    prompt: msgspec.Raw
    response: msgspec.Raw
    score: float
    expected_candidates: int | None = None
    policy_version: str | None = None
    raw_metadata: msgspec.Raw = _NO_METADATA


_read_turn: Final = msgspec.json.Decoder(_Turn).decode
_read_candidate: Final = msgspec.json.Decoder(_Candidate).decode
_write: Final = msgspec.json.Encoder().encode
