"""Dead letters: what a service refused, byte for byte, with the reason.

A dead letter has the original key, value and headers; the headers named here give the reason
and where the record was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka import ConsumerRecord
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tunestream import __version__
from tunestream.domain.effects import Refused
from tunestream.events.ids import content_digest
from tunestream.streams.fetch.undecodable import Undecodable

__all__ = [
    "DLQ_MESSAGE",
    "DLQ_OFFSET",
    "DLQ_PARTITION",
    "DLQ_REASON",
    "DLQ_REPLAY_FOR",
    "DLQ_SERVICE",
    "DLQ_SHA256",
    "DLQ_SIZE",
    "DLQ_TOPIC",
    "DLQ_URI",
    "DLQ_VERSION",
    "FOREIGN",
    "REASONS",
    "Letter",
    "dead_letter",
    "dead_letter_headers",
    "is_for_another",
    "original_headers",
    "shortened",
    "why_final",
]

# As they may come: Kafka has headers without a value.
Headers = list[tuple[str, bytes | None]]

FOREIGN: Final = "foreign"
"""The code of a record of a dead-letter topic that no service wrote; none is refused with it."""

DLQ_REASON: Final = "ts_dlq_reason"
DLQ_MESSAGE: Final = "ts_dlq_message"
DLQ_TOPIC: Final = "ts_dlq_topic"
DLQ_PARTITION: Final = "ts_dlq_partition"
DLQ_OFFSET: Final = "ts_dlq_offset"
DLQ_SERVICE: Final = "ts_dlq_service"
DLQ_VERSION: Final = "ts_dlq_version"
DLQ_REPLAY_FOR: Final = "ts_dlq_replay_for"
"""On a record that was sent again: the service that had refused it. Other readers of the topic had not."""
# Of a letter that fits no topic: what its value was; its own value is the beginning of it.
DLQ_SIZE: Final = "ts_dlq_size"
DLQ_SHA256: Final = "ts_dlq_sha256"
DLQ_URI: Final = "ts_dlq_uri"
# So much of such a value is kept, bytes: enough to see what it is.
_PREFIX: Final = 64 << 10

REASONS: Final = (
    "contradiction",
    "late",
    "newer_type",
    "non_finite",
    "output_too_large",
    "schema.bounds",
    "schema.missing",
    "schema.score_range",
    "schema.unknown_field",
    "schema.value",
    "schema.wrong_type",
    "turn_full",
    "undecodable.batch",
    "undecodable.empty",
    "undecodable.header",
    "undecodable.json",
    "undecodable.nesting",
    "undecodable.skipped",
    "undecodable.utf8",
    "unknown_run",
    "unknown_strategy",
    "unknown_type",
    "wrong_builder",
    "wrong_key",
)
"""Every reason code; its counter is there from the start."""

_SENT_WRONG: Final = "the agent has to send it again, mended"
# Why no change on our side mends a letter, by the family of its reason code.
_WHY_FINAL: Final[Mapping[str, str]] = {
    "undecodable": f"its bytes cannot be read: {_SENT_WRONG}",
    "schema": f"its fields are wrong: {_SENT_WRONG}",
    "unknown_type": f"its topic carries no such type: {_SENT_WRONG}",
    "non_finite": f"NaN and infinity are no scores: {_SENT_WRONG}",
    "wrong_key": f"its key is not its run and example: {_SENT_WRONG}",
    "late": "its turn was closed and trained on; opening it again would count it twice",
    "turn_full": "its turn had reached max_candidates_per_turn and is closed",
    "contradiction": "it contradicts an event with the same id, which counted",
    FOREIGN: "no service wrote it, so nobody knows where it was",
}


def why_final(code: str) -> str | None:
    """Return why replaying a dead letter with this reason code can never help, None when it can."""
    return _WHY_FINAL.get(code.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of a dead-letter topic, as it is to be written."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """How many bytes a batch of this record alone takes at most."""
        return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(self.key, self.value, self.headers))


def dead_letter(record: ConsumerRecord, refused: Refused, service: str) -> Letter:
    """Return the letter of a refused record, whole."""
    return Letter(record.key, record.value, dead_letter_headers(record, refused, service))


def shortened(letter: Letter, limit: int, uri: str | None) -> Letter:
    """Return a letter that is larger than its topic takes, with the beginning of its value alone.

    Headers and key are left out where they are what is too large.

    Args:
        letter: whole.
        limit: bytes that the topic takes.
        uri: where the whole value is in the artifact store, None when the service has no store.
    """
    value = letter.value or b""
    kept = f"all of it is {uri} in the artifact store" if uri else "this service has no store for the rest"
    note = f"the record is larger than its dead-letter topic takes: the value is the beginning, {kept}"
    ours = [(name, content) for name, content in letter.headers if name.startswith("ts_dlq_")]
    theirs = original_headers(letter.headers)
    message = dict(ours)[DLQ_MESSAGE] or b""
    sizes = {DLQ_SIZE: str(len(value)), DLQ_SHA256: content_digest(value), DLQ_URI: uri}
    marks: Headers = [(DLQ_MESSAGE, message + f"; {note}".encode())]
    marks += [(name, content.encode()) for name, content in sizes.items() if content is not None]
    marks += [(name, content) for name, content in ours if name != DLQ_MESSAGE]
    whole = Letter(letter.key, value[:_PREFIX], [*theirs, *marks])
    bare = Letter(letter.key, value[:_PREFIX], marks)
    return next(
        (found for found in (whole, bare) if found.size <= limit), Letter(None, value[:_PREFIX], marks)
    )


def dead_letter_headers(record: ConsumerRecord, refused: Refused, service: str) -> Headers:
    """Return the original headers and the refusal's; names that only a refusal has are not the sender's."""
    reasons = {
        DLQ_REASON: refused.code,
        DLQ_MESSAGE: refused.message,
        DLQ_TOPIC: record.topic,
        DLQ_PARTITION: str(record.partition),
        DLQ_OFFSET: str(record.first_offset if isinstance(record, Undecodable) else record.offset),
        DLQ_SERVICE: service,
        DLQ_VERSION: __version__,
    }
    return [
        *original_headers(record.headers),
        *((name, value.encode("utf-8", "replace")) for name, value in reasons.items()),
    ]


def is_for_another(record: ConsumerRecord, service: str, readers: Collection[str]) -> bool:
    """Return whether a record was sent again for a service other than this one, which has handled it.

    Args:
        record: as consumed.
        service: this one.
        readers: the services that read its topic; a record for anybody else is for all of them.
    """
    for name, meant in record.headers:
        if name == DLQ_REPLAY_FOR:
            return meant is not None and any(meant == one.encode() for one in readers if one != service)
    return False


def original_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return a dead letter's headers without the refusal's."""
    return [(name, value) for name, value in headers if not name.startswith("ts_dlq_")]
