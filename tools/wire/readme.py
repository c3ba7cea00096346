"""The page that explains the contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tools.wire.asyncapi import summary_of
from tools.wire.examples import Example
from tools.wire.headers import HEADERS, Header
from tunestream.topics import CATALOGUE, DAY_MS, MIB, Cleanup, Topic

__all__ = ["readme", "table"]

_TEXT: Final = """\
# The wire contract

*Written by `make docs` from `tunestream.topics` and `tunestream.events`; do not edit.*

- `asyncapi.yaml`: all topics and messages, AsyncAPI 3.0.
- `schemas/`: the JSON Schema (2020-12) of each body, by `ce_type`.
- `examples/`: one record for each topic and type, with key, headers and partition. They are normative: the
  tests read and write them byte for byte.
- `baseline/`: the schemas as released. A test fails when a schema of the same major version no longer takes
  what its baseline took.

## Topics

Names are without the deployment's prefix (`TUNESTREAM_KAFKA_TOPIC_PREFIX`).

{topics}

## Types

`ce_type` ends in the major version of its schema. Within a major version fields are only added, and only
optional ones; so upgrade readers before writers, from the end of the line to its beginning.

A service refuses a record of a higher major version than it reads as `newer_type`: `tunestream dlq replay`
sends the record again, once the service is upgraded. Any other type that a topic does not carry is
`unknown_type`, which is final. Readers of the other topics skip a record whose type they do not know, and its
key keeps the value that it had.

{types}

## Headers

Attributes of CloudEvents 1.0 in Kafka's binary mode, UTF-8. Other headers are allowed and ignored.

{headers}

## Keys and partitions

A key joins its parts with "/", each percent-encoded with nothing left out but `A-Z a-z 0-9 _ . - ~`: the run
`a/b` and the example `c` give `a%2Fb/c`. The partition is Kafka's default:
`(murmur2(key) & 0x7fffffff) % partitions`. In `ttc.events` an agent's client may choose another one, as
librdkafka does (CRC32), if all agents of a run choose alike. Some records lie elsewhere:

- in {by_run} the partition is
  that of the encoded run alone, so that a run's records lie in one partition;
- what comes of a record of `ttc.events` lies in the same partition of `ttc.candidates`;
- a tick has `*` as its key and lies in the partition whose stream time it carries on; that of
  `ttc.candidates` goes on in the partition of `trajectories` with the same number;
- a dead letter lies in the partition of the record that was refused;
- a mark in `dlq.marks` lies in the partition of its dead letter.

A record that `tunestream dlq replay` sends again lies where it was, with its key and its headers. Its header
`ts_dlq_replay_for` names the service that had refused it; other services that read the topic skip the record.

## Bodies

Compact UTF-8 JSON. Numbers are finite; a number that is not is refused. Unknown fields of our own types are
refused with a message that names them; those of `nat.intermediate_step.v1` are tolerated. The `body` of an
example file, written without white space and with non-ASCII characters as they are, is the record's value.
"""


def readme(examples: Iterable[Example]) -> str:
    """Return the page.

    Args:
        examples: what the types link to.
    """
    by_run = ", ".join(f"`{entry.name}`" for entry in CATALOGUE if entry.by_run)
    return _TEXT.format(
        topics=table(("topic", "what it carries", "key", "kept", "largest batch"), map(_topic, CATALOGUE)),
        types=table(("type", "what it carries", "in"), _types(list(examples))),
        headers=table(("header", "what it carries", "where", "required"), map(_header, HEADERS)),
        by_run=by_run,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _topic(entry: Topic) -> tuple[str, ...]:
    size = f"{entry.max_message_bytes // MIB} MiB"
    return f"`{entry.name}`", entry.description, entry.key.value, _kept(entry), size


def _kept(entry: Topic) -> str:
    if entry.cleanup is Cleanup.COMPACT or entry.retention_ms is None:
        return "latest of each key"
    return f"{entry.retention_ms // DAY_MS} days"


def _types(examples: list[Example]) -> Iterator[tuple[str, ...]]:
    found = {(example.topic, example.ce_type) for example in examples}
    for name in dict.fromkeys(name for entry in CATALOGUE for name in entry.types):
        links = (
            f"[{entry.name}](examples/{entry.name}/{name}.json)"
            for entry in CATALOGUE
            if name in entry.types and (entry.name, name) in found
        )
        yield f"[`{name}`](schemas/{name}.json)", summary_of(name), ", ".join(links)


def _header(header: Header) -> tuple[str, ...]:
    where = ", ".join(header.topics) or "everywhere"
    return f"`{header.name}`", header.meaning, where, "yes" if header.required else ""
