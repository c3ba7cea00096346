"""CloudEvents 1.0 over Kafka in binary mode: attributes are headers, the body is the data.

Times are integer milliseconds since the epoch in code and RFC 3339 in UTC on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

__all__ = [
    "CONTENT_TYPE",
    "Envelope",
    "HeaderError",
    "Headers",
    "format_time",
    "parse_time",
]

CONTENT_TYPE = "application/json"
Headers = tuple[tuple[str, bytes], ...]

_PASSED_ON = ("traceparent", "tracestate")
# W3C Trace Context asks for 512 characters of tracestate; more may be dropped.
_LONGEST_PASSED_ON = 1024
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
# 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
_LAST_MOMENT = 253_402_300_799_999
_FIXED = (("ce_specversion", b"1.0"), ("content-type", CONTENT_TYPE.encode()))
# As format_time writes: 2026-01-02T03:04:05.678Z, the milliseconds behind the dot.
_WRITTEN_LENGTH = 24
_DOT = 19


class HeaderError(ValueError):
    """A record's headers are not a CloudEvent's; the message names the header and the remedy."""


def format_time(milliseconds: int) -> str:
    """Write milliseconds since the epoch as RFC 3339, e.g. ``2026-01-02T03:04:05.678Z``."""
    return f"{_format_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _format_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=4096)
def parse_time(text: str) -> int:
    """Read an RFC 3339 time as milliseconds since the epoch.

    Raises:
        ValueError: when the text is no RFC 3339 time with an offset, or not in the years 1970 to 9999.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset; write it as 2026-01-02T03:04:05.678Z")
    milliseconds = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= milliseconds <= _LAST_MOMENT:
        raise ValueError(f"{text!r} is not in the years 1970 to 9999")
    return milliseconds


class Envelope(msgspec.Struct, gc=False):
    """The attributes of one event.

    Attributes:
        id: unique per source; ours are deterministic.
        type: ends in the schema's major version, e.g. ``tunestream.candidate.v1``.
        source: what produced the event, e.g. ``/tunestream/pair-builder``.
        time: milliseconds since the epoch, None when absent.
        extensions: lower-case names without the ``ce_`` prefix.
        passed_on: trace context headers, handed on unchanged.
    """

    id: str
    type: str
    source: str
    time: int | None = None
    extensions: Mapping[str, str] = msgspec.field(default_factory=dict)
    passed_on: Headers = ()

    def to_headers(self) -> list[tuple[str, bytes]]:
        """Return the record headers of this event."""
        headers = [
            *_FIXED,
            ("ce_id", self.id.encode()),
            ("ce_type", _encoded(self.type)),
            ("ce_source", _encoded(self.source)),
        ]
        if self.time is not None:
            headers.append(("ce_time", format_time(self.time).encode()))
        for name, value in self.extensions.items():
            headers.append(("ce_" + name, value.encode()))
        headers += self.passed_on
        return headers

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
        """Read the attributes of a record.

        Raises:
            HeaderError: when a required attribute is missing or a value is not UTF-8 or no time.
        """
        headers = tuple(headers)
        usual = _read_usual(headers)
        if usual is not None:
            return usual
        attributes: dict[str, str] = {}
        passed_on: list[tuple[str, bytes]] = []
        name = ""
        try:
            for name, value in headers:
                if value is None:
                    _check_optional(name)
                elif name[:3] == "ce_":
                    attributes[name[3:]] = value.decode()
                elif name in _PASSED_ON and len(value) <= _LONGEST_PASSED_ON:
                    passed_on.append((name, value))
        except UnicodeDecodeError:
            raise HeaderError(f"header {name} is not UTF-8 text; encode it as UTF-8") from None
        return cls._from_attributes(attributes, tuple(passed_on))

    @classmethod
    def _from_attributes(cls, attributes: dict[str, str], passed_on: Headers) -> Envelope:
        try:
            version = attributes.pop("specversion")
            identity = attributes.pop("id")
            kind = attributes.pop("type")
            source = attributes.pop("source")
        except KeyError as missing:
            raise HeaderError(
                f"header ce_{missing.args[0]} is missing; CloudEvents 1.0 requires it"
            ) from None
        if version != "1.0":
            raise HeaderError(f"ce_specversion is {version!r}; this service reads 1.0")
        if not (identity and kind and source):
            raise HeaderError("one of the headers ce_id, ce_type and ce_source is empty; give it a value")
        time = _parse_header("ce_time", attributes.pop("time", None))
        return cls(identity, kind, source, time, attributes, passed_on)


class _Extensions(Mapping[str, str]):
    """The extension attributes among a record's headers, decoded when they are asked for.

    Args:
        headers: in ASCII, by name, without the attributes that are no extensions.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[str, bytes]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers["ce_" + name].decode()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or ``default``; three times as fast as a mapping's own way."""
        value = self._headers.get("ce_" + name)
        return default if value is None else value.decode()

    def __contains__(self, name: object) -> bool:
        return f"ce_{name}" in self._headers

    def __iter__(self) -> Iterator[str]:
        return (name[3:] for name in self._headers if name.startswith("ce_"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def _read_usual(headers: tuple[tuple[str, bytes | None], ...]) -> Envelope | None:
    """Read headers that hold what they should, in ASCII, each once; None for others.

    This takes half of the time. What is refused, and why, is found by the other way.
    """
    found: dict[str, Any] = dict(headers)
    try:
        if len(found) != len(headers) or not b"".join(found.values()).isascii():
            return None
        if found.pop("ce_specversion") != b"1.0":
            return None
        identity, kind, source = found.pop("ce_id"), found.pop("ce_type"), found.pop("ce_source")
        written = found.pop("ce_time", None)
        time = None if written is None else _read_time(written)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not (identity and kind and source):
        return None
    traced = "traceparent" in found or "tracestate" in found
    passed_on = tuple(_to_pass_on(found)) if traced else ()
    return Envelope(identity.decode(), _decoded(kind), _decoded(source), time, _Extensions(found), passed_on)


def _to_pass_on(headers: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, value in headers.items():
        if name in _PASSED_ON and len(value) <= _LONGEST_PASSED_ON:
            yield name, value


def _read_time(written: bytes) -> int:
    """Read a time as :func:`parse_time` does; times of one second share most of the work."""
    if len(written) == _WRITTEN_LENGTH and written[_DOT] == 0x2E and written[-1] == 0x5A:
        milliseconds = written[_DOT + 1 : -1]
        if milliseconds.isdigit():
            return _read_second(written[:_DOT]) + int(milliseconds)
    return parse_time(written.decode())


@lru_cache(maxsize=1024)
def _read_second(written: bytes) -> int:
    return parse_time(f"{written.decode()}Z")


# Types and sources are few, and come again and again.
@lru_cache(maxsize=1024)
def _encoded(text: str) -> bytes:
    return text.encode()


@lru_cache(maxsize=1024)
def _decoded(text: bytes) -> str:
    return text.decode()


def _check_optional(name: str) -> None:
    if name.startswith("ce_"):
        raise HeaderError(f"header {name} has no value; leave it out or give it one")


def _parse_header(name: str, written: str | None) -> int | None:
    try:
        return None if written is None else parse_time(written)
    except (ValueError, OverflowError):
        raise HeaderError(
            f"header {name} is {written!r}; write RFC 3339 from 1970 on, e.g. 2026-01-02T03:04:05.678Z"
        ) from None
