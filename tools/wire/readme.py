"""The page that explains the contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tools.wire.asyncapi import summary_of
from tools.wire.examples import Example
from tools.wire.headers import HEADERS, Header
from tunestream.events.runs import FORMAT, TURN_FORMAT
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

Which types the services write is a number: the `format` in the topic `runs`, which `tunestream upgrade
finish` raises. This release reads formats 1 to {format}. Turn records, scores,
`tunestream.trajectory_group.v2` and `tunestream.window.v1` are written from format {turn_format} on. Below
it the collector splits a published turn into `tunestream.candidate.v1` and `tunestream.turn_end.v1`, and
refuses what these cannot hold.

A service refuses a record of a higher major version than it reads as `newer_type`: `tunestream dlq replay`
sends the record again, once the service is upgraded. Any other type that a topic does not carry is
`unknown_type`, which is final. Readers of the other topics skip a record whose type they do not know, and its
key keeps the value that it had.

{types}

## Turns

`tunestream.ttc.turn.v1` carries a turn whole: the prompt and the tools once, the candidates, `complete`.
With `complete: false` more comes of the turn, as records of turns or as single candidates with
`tunestream.ttc.turn_end.v1`; all of it is joined. A fault of a candidate leaves that one out, and one dead
letter names all that are left out; a fault elsewhere refuses the turn. A repeat of a candidate's id counts
once. A candidate of a turn that was closed is `late`.

A candidate without a score is for runs whose scores come later: from the run's reward function, asked in
`ttc.unscored` and answering in `ttc.scores`, or by `tunestream.ttc.score.v1`. The first score counts.

## Publishing from another language

`examples/agent.mjs` does all of this in JavaScript, with kafkajs.

1. Key: run and example, as under *Keys and partitions*. Any partitioner will do, the same one for all
   agents of a run: an example then lies in one partition.
2. Headers: `ce_specversion`, `ce_id`, `ce_type`, `ce_source`. Body: JSON as in the schema and the example
   of its type.
3. A turn is one record of `tunestream.ttc.turn.v1`. It is there whole or not at all, without a
   transaction. `candidate_id` is unique within the turn. A turn that is published again with the same ids
   counts once.
4. A turn that grows: records with `complete: false`, then one without that field, or
   `tunestream.ttc.turn_end.v1`; or `expected_candidates` in each of them, and no end. Single
   `tunestream.ttc.candidate.v1` do the same for text with a score.
5. Sizes: a batch of `ttc.events` takes 4 MiB. A larger turn goes in parts, which is not atomic. An open
   transaction would keep everything behind it in its partition from the services.
6. A score that comes later: `tunestream.ttc.score.v1` with the same key, written to the partition of the
   turn, which the client gave when the turn was delivered. Where it is not known: one copy to every
   partition, each with the header `ce_tseverywhere: 1`.
7. A deployment that was upgraded and not finished (format 2 or lower) takes text with a score alone. Who
   cannot read the record `format` in `runs` publishes single candidates and ends, which every format
   takes.

## Groups

`tunestream.trajectory_group.v2` carries each member once. A pair `[c, r, reward]` is one trajectory: with
chosen `members[c]`, rejected `members[r]` and the chosen one's context `contexts[members[c].context]` it
unfolds to what version 1 spells out:

| in version 1 | is |
|---|---|
| `reward` | the pair's |
| `episode[0].prompt`, `.tools`, `.prompt_token_ids` | the context's `prompt`, `tools`, `token_ids` |
| `episode[0].chosen_response`, `.rejected_response` | the member's `response`, its `content` if a message |
| `episode[0].chosen_message`, `.rejected_message` | the member's `response` where it is a message |
| `episode[0].chosen_token_ids`, `.rejected_token_ids` | the member's `token_ids` |
| `metadata.dpo_type` | `preference_pair` |
| `metadata.score_diff` | the chosen score minus the rejected one |
| `metadata.example_id`, `.turn_id` | the group's |
| `metadata.chosen_score`, `.rejected_score` | the member's `score` |
| `metadata.chosen_index`, `.rejected_index` | the member's `index`, null when absent |
| `metadata.chosen_raw_metadata`, and the other | the member's `metadata`, if `pairing.exhaustive` |
| `metadata.num_candidates` | how many members there are, unless `pairing.exhaustive` |
| `metadata.policy_version` | of the two, the one that appears first among all members; absent if none |

A run with `trajectory_builder.wire: expanded` gets version 1.

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
- what comes of a record of `ttc.events` lies in the same partition of `ttc.candidates`, and so do its turn's
  request in `ttc.unscored` and the answer in `ttc.scores`;
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
        format=FORMAT,
        turn_format=TURN_FORMAT,
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
