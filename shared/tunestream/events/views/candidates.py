"""Views of what the collector writes of a turn: all of it, a part, or one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Self

import msgspec
import orjson
from typing_extensions import override

from tunestream.events.views.base import View, view
from tunestream.events.views.slices import (
    Name,
    is_metadata,
    is_prompt,
    is_repeated,
    is_response,
    is_tokens,
    is_tools,
)

__all__ = ["MemberView", "SingleView", "TurnView", "encode_part"]

_NO_METADATA: Final = msgspec.Raw(b"{}")
_ABSENT: Final = msgspec.Raw(b"null")
_SLICES_OF_TURN: Final = ("prompt", "tools", "prompt_token_ids")
_SLICES_OF_MEMBERS: Final = ("response", "token_ids", "raw_metadata")


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

    def is_canonical(self) -> bool:
        """Return whether the model accepts every slice, and would write it as it is."""
        return (
            is_response(self.response)
            and (self.raw_metadata == b"{}" or is_metadata(self.raw_metadata))
            and (self.token_ids is None or is_tokens(self.token_ids))
        )


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
        found = super().read(value)
        if found is None or any(is_repeated(value, name, 1) for name in _SLICES_OF_TURN):
            return None
        count = len(found.candidates)
        return None if any(is_repeated(value, name, count) for name in _SLICES_OF_MEMBERS) else found

    @classmethod
    @override
    def decode(cls, value: bytes) -> Self:
        found = _read_turn(value)
        return cls(
            found.run_id,
            found.example_id,
            found.turn_id,
            bytes(found.prompt),
            tuple(
                MemberView(
                    one.candidate_id,
                    one.candidate_index,
                    bytes(one.response),
                    one.score,
                    one.policy_version,
                    _present_slice(one.token_ids),
                    bytes(one.raw_metadata),
                )
                for one in found.candidates
            ),
            found.complete,
            found.expected_candidates,
            _present_slice(found.tools),
            _present_slice(found.prompt_token_ids),
        )

    @override
    def is_canonical(self) -> bool:
        return (
            is_prompt(self.prompt)
            and all(member.is_canonical() for member in self.candidates)
            and (self.tools is None or is_tools(self.tools))
            and (self.prompt_token_ids is None or is_tokens(self.prompt_token_ids))
        )


@view("tunestream.candidate.v1")
class SingleView(TurnView, frozen=True, gc=False):
    """A :class:`~tunestream.events.ttc.CandidateStep`, as a turn of one that is not complete."""

    @classmethod
    @override
    def decode(cls, value: bytes) -> Self:
        found = _read_candidate(value)
        member = MemberView(
            found.candidate_id,
            found.candidate_index,
            bytes(found.response),
            found.score,
            found.policy_version,
            None,
            bytes(found.raw_metadata),
        )
        return cls(
            found.run_id,
            found.example_id,
            found.turn_id,
            bytes(found.prompt),
            (member,),
            False,
            found.expected_candidates,
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
        "expected_candidates": turn.expected_candidates,
    }
    return orjson.dumps(_present(values))


def _encoded(candidate: MemberView) -> dict[str, object]:
    return _present(
        {
            "candidate_id": candidate.candidate_id,
            "candidate_index": candidate.candidate_index,
            "response": orjson.Fragment(candidate.response),
            "score": candidate.score,
            "policy_version": candidate.policy_version,
            "token_ids": candidate.token_ids and orjson.Fragment(candidate.token_ids),
            "raw_metadata": orjson.Fragment(candidate.raw_metadata),
        }
    )


def _present(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _present_slice(written: msgspec.Raw) -> bytes | None:
    return None if written is _ABSENT or (found := bytes(written)) == b"null" else found


class _Member(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    candidate_id: Name
    response: msgspec.Raw
    candidate_index: int | None = None
    score: float | None = None
    policy_version: str | None = None
    token_ids: msgspec.Raw = _ABSENT
    raw_metadata: msgspec.Raw = _NO_METADATA


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    run_id: Name
    example_id: Name
    turn_id: str
    prompt: msgspec.Raw
    candidates: Annotated[list[_Member], msgspec.Meta(min_length=1)]
    complete: bool
    expected_candidates: int | None = None
    tools: msgspec.Raw = _ABSENT
    prompt_token_ids: msgspec.Raw = _ABSENT


class _Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
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
