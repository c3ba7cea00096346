"""The headers of records, by topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tunestream.events.scores import EVERYWHERE
from tunestream.streams.letters.dead_letters import (
    DLQ_MESSAGE,
    DLQ_OFFSET,
    DLQ_PARTITION,
    DLQ_REASON,
    DLQ_REPLAY_FOR,
    DLQ_SERVICE,
    DLQ_TOPIC,
    DLQ_VERSION,
)
from tunestream.topics import CATALOGUE, Topic

__all__ = ["HEADERS", "Header", "headers_of", "headers_schema"]

_TIME: Final = "date-time"
_EVENTS: Final = "ttc.events"
_CANDIDATES: Final = "ttc.candidates"
_SCORES: Final = ("ttc.unscored", "ttc.scores")
_TRAJECTORIES: Final = "trajectories"
_BATCHES: Final = "training.batches"
_DEAD_LETTERS: Final = "dead letters"
_INPUTS: Final = tuple(entry.source for entry in CATALOGUE if entry.source is not None)


@dataclass(frozen=True, slots=True)
class Header:
    """One header.

    Attributes:
        name: as on the record.
        meaning: for people.
        required: whether a record without it is refused.
        topics: where it may be; empty for every topic.
        form: a JSON Schema format, or empty.
    """

    name: str
    meaning: str
    required: bool = False
    topics: tuple[str, ...] = ()
    form: str = ""


HEADERS: Final = (
    Header("ce_specversion", "`1.0`", required=True),
    Header("content-type", "`application/json`"),
    Header("ce_id", "unique per source; ours are hashes of what they name", required=True),
    Header("ce_type", "which body it is; ends in the schema's major version", required=True),
    Header("ce_source", "who wrote it, e.g. `/tunestream/pair-builder`", required=True),
    Header(
        "ce_time",
        "in `ttc.events` when it happened, for people: it decides nothing. After the collector stream time, "
        "and required",
        form=_TIME,
    ),
    Header(
        "ce_tsrun",
        "the run of a NAT step, whose body names none; required on such a record",
        topics=(_EVENTS,),
    ),
    Header("ce_tsexample", "the example of a NAT step; required on such a record", topics=(_EVENTS,)),
    Header(
        f"ce_{EVERYWHERE}",
        "`1` on a score that was sent to every partition, as who scored does not know that of the turn",
        topics=(_EVENTS, _CANDIDATES),
    ),
    Header(
        "ce_tslogtime",
        "when the broker first took a replayed event, milliseconds since the epoch; ignored but in a "
        "deployment for replays",
        topics=(_EVENTS,),
    ),
    Header(
        "ce_tsdigest",
        "digest of the run's configuration that applies",
        topics=(_CANDIDATES, *_SCORES, _TRAJECTORIES, _BATCHES),
    ),
    Header("ce_tsorigin", "partition/offset of the event in `ttc.events`", topics=(_CANDIDATES,)),
    Header(
        "ce_tspartition",
        "the partition of `ttc.candidates` that the group comes from, whose clock its `ce_time` follows",
        topics=(_TRAJECTORIES,),
    ),
    Header("traceparent", "W3C trace context, passed on to what the record causes"),
    Header("tracestate", "W3C trace context, passed on with it"),
    Header(
        DLQ_REPLAY_FOR,
        "on a record that `dlq replay` sent again: the service that had refused it; others skip the record",
        topics=_INPUTS,
    ),
    Header(DLQ_REASON, "reason code, e.g. `schema.missing`", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_MESSAGE, "the reason for people, with the remedy", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_TOPIC, "where the record was", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_PARTITION, "its partition there", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_OFFSET, "its offset there", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_SERVICE, "which service refused it", required=True, topics=(_DEAD_LETTERS,)),
    Header(DLQ_VERSION, "that service's version", required=True, topics=(_DEAD_LETTERS,)),
)


def headers_of(topic: Topic) -> list[Header]:
    """Return the headers that records of a topic may have."""
    places = {topic.name} if topic.source is None else {topic.source, _DEAD_LETTERS}
    return [header for header in HEADERS if not header.topics or places & {*header.topics}]


def headers_schema(topic: Topic) -> dict[str, Any]:
    """Return the JSON Schema of a topic's headers; other headers are allowed and ignored.

    What was refused may lack any of the headers of its topic.
    """
    found = headers_of(topic)
    ours = [header for header in found if topic.source is None or _DEAD_LETTERS in header.topics]
    properties = {header.name: _property(header) for header in found}
    if topic.types:
        properties["ce_type"]["enum"] = list(topic.types)
    required = [header.name for header in ours if header.required]
    return {"type": "object", "properties": properties, "required": required}


def _property(header: Header) -> dict[str, Any]:
    form = {"format": header.form} if header.form else {}
    return {"type": "string", "description": header.meaning, **form}
