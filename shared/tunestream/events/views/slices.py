"""Checks of the slices of JSON that views leave undecoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson

from tunestream.events.base import IDENTIFIER_LENGTH

__all__ = [
    "FLAT",
    "INT64",
    "Count",
    "MessageFields",
    "Name",
    "TokenList",
    "are_metadata",
    "brackets",
    "integer",
    "is_flat",
    "is_plain",
    "is_prompt",
    "is_response",
    "is_tokens",
    "is_tools",
    "is_utf8",
    "one_spelling",
]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=IDENTIFIER_LENGTH)]
"""As :data:`tunestream.events.base.Identifier`."""

FLAT: Final = 90
"""What the model reads of any depth may be refused for it; what has so few levels never is."""
INT64: Final = 1 << 63
# The candidates of a turn repeat its prompt, and so do turns that come at the same time.
_PROMPTS: Final = 16


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str | dict[str, Any]


class _Call(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    id: str | None = None
    type: Literal["function"]
    function: _Function


class MessageFields(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A message in its one spelling, with its fields in the order in which they are written."""

    role: str
    content: str
    tool_calls: Annotated[list[_Call], msgspec.Meta(min_length=1)] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


Count = Annotated[int, msgspec.Meta(ge=0)]
TokenList = Annotated[list[Count], msgspec.Meta(min_length=1)]
_read_messages: Final = msgspec.json.Decoder(list[MessageFields]).decode
_read_message: Final = msgspec.json.Decoder(MessageFields).decode
_read_tokens: Final = msgspec.json.Decoder(TokenList).decode
_write: Final = msgspec.json.Encoder().encode


def integer(value: int) -> int | orjson.Fragment:
    """Return an integer as orjson writes it, which takes 64 bits at most; more of them are a slice."""
    return value if -INT64 <= value < INT64 else orjson.Fragment(str(value))


def is_plain(body: bytes) -> bool:
    r"""Return whether a body is UTF-8 whose texts have one spelling: no ``\u`` and no ``\/``."""
    return not _has_two_spellings(body) and is_utf8(body)


def is_utf8(body: bytes) -> bool:
    """Return whether a body is UTF-8: slices of it are not decoded, which would show it."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def one_spelling(text: bytes) -> bytes:
    """Return a slice that is a text in its one spelling.

    Raises:
        ValueError: when it has half of a character.
    """
    return orjson.dumps(orjson.loads(text)) if _has_two_spellings(text) else text


def _has_two_spellings(written: bytes) -> bool:
    r"""Return whether texts may be written otherwise: only ``\u`` and ``\/`` can be."""
    return b"\\" in written and (b"\\u" in written or b"\\/" in written)


def is_prompt(written: bytes) -> bool:
    """Return whether a slice is a prompt in its one spelling: text, or messages without what is left out."""
    return written[:1] == b'"' or _is_conversation(written)


@lru_cache(maxsize=_PROMPTS)
def _is_conversation(written: bytes) -> bool:
    return _is_canonical(written, _read_messages)


def is_response(written: bytes) -> bool:
    """Return whether a slice is a response in its one spelling."""
    return written[:1] == b'"' or _is_canonical(written, _read_message)


def is_tokens(written: bytes) -> bool:
    """Return whether a slice is a list of token ids in its one spelling."""
    return _is_canonical(written, _read_tokens)


def are_metadata(slices: Sequence[bytes]) -> bool:
    """Return whether slices are objects in their one spelling, of no depth that could be refused.

    Args:
        slices: values of JSON. They are read together, unless their depth may lie in one of them.
    """
    together = b"[" + b",".join(slices) + b"]"
    if brackets(together) - len(slices) > FLAT:
        return len(slices) > 1 and all(are_metadata([one]) for one in slices)
    found = _any(together)
    return isinstance(found, list) and set(map(type, found)) == {dict}


def is_tools(written: bytes) -> bool:
    """Return whether a slice is a list of objects in its one spelling, of no depth that could be refused."""
    found = _any(written) if is_flat(written) else None
    return isinstance(found, list) and bool(found) and all(isinstance(one, dict) for one in found)


def _any(written: bytes) -> object:
    """Return the value of a slice, None when it has another spelling."""
    try:
        found = orjson.loads(written)
        return found if orjson.dumps(found) == written else None
    except (orjson.JSONDecodeError, TypeError):
        return None


def _is_canonical(written: bytes, read: Callable[[bytes], object]) -> bool:
    if b'"arguments":{' in written and not is_flat(written):
        return False
    try:
        return _write(read(written)) == written
    except (msgspec.DecodeError, RecursionError):  # the model knows better what is wrong
        return False


def is_flat(written: bytes) -> bool:
    """Return whether a slice has surely few levels."""
    return brackets(written) <= FLAT


def brackets(written: bytes) -> int:
    """Return how many objects and lists a slice may have; no value in it has more levels."""
    return written.count(b"{") + written.count(b"[")
