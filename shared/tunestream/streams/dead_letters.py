"""Dead letters: what a service refused, byte for byte, with the reason.

A dead letter has the original key, value and headers; the headers named here give the reason
and where the record was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import ConsumerRecord

from tunestream import __version__
from tunestream.domain.effects import Refused

__all__ = [
    "DLQ_MESSAGE",
    "DLQ_OFFSET",
    "DLQ_PARTITION",
    "DLQ_REASON",
    "DLQ_SERVICE",
    "DLQ_TOPIC",
    "DLQ_VERSION",
    "dead_letter_headers",
    "original_headers",
    "why_final",
]

# As they may come: Kafka has headers without a value.
Headers = list[tuple[str, bytes | None]]

DLQ_REASON: Final = "ts_dlq_reason"
DLQ_MESSAGE: Final = "ts_dlq_message"
DLQ_TOPIC: Final = "ts_dlq_topic"
DLQ_PARTITION: Final = "ts_dlq_partition"
DLQ_OFFSET: Final = "ts_dlq_offset"
DLQ_SERVICE: Final = "ts_dlq_service"
DLQ_VERSION: Final = "ts_dlq_version"

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
}


def why_final(code: str) -> str | None:
    """Return why replaying a dead letter with this reason code can never help, None when it can."""
    return _WHY_FINAL.get(code.partition(".")[0])


def dead_letter_headers(record: ConsumerRecord, refused: Refused, service: str) -> Headers:
    """Return the original headers and the refusal's."""
    reasons = {
        DLQ_REASON: refused.code,
        DLQ_MESSAGE: refused.message,
        DLQ_TOPIC: record.topic,
        DLQ_PARTITION: str(record.partition),
        DLQ_OFFSET: str(record.offset),
        DLQ_SERVICE: service,
        DLQ_VERSION: __version__,
    }
    return [
        *record.headers,
        *((name, value.encode("utf-8", "replace")) for name, value in reasons.items()),
    ]


def original_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return a dead letter's headers without the refusal's."""
    return [(name, value) for name, value in headers if not name.startswith("ts_dlq_")]
