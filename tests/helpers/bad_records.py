"""Every kind of record that a service has to refuse, with the reason code it must give."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunestream.events.keys import encode_key

RUN: Final = "good"
SMALL_RUN: Final = "two-a-turn"
EPISODE_RUN: Final = "episodes"
UNKNOWN_RUN: Final = "applied-later"
STEP: Final = "dpo_candidate_move"
MIB: Final = 1 << 20

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Raw:
    """A record as an agent may send it; ``kind`` names the example whose partition it must hit."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        name: of the kind, also its example id.
        code: the reason code it must get.
        record: what is refused.
        before: good records of the same example that have to come first.
        closes: whether they make a closed turn.
        refused_by: the topic from which it is refused.
    """

    name: str
    code: str
    record: Raw
    before: Sequence[Raw] = ()
    closes: bool = False
    refused_by: str = field(default="ttc.events")


def candidate(example: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a native candidate."""
    body = {
        "run_id": RUN,
        "example_id": example,
        "turn_id": "t",
        "candidate_id": "c",
        "prompt": "p",
        "response": "r",
        "score": 0.5,
    }
    return body | fields


def headers(kind: str = "tunestream.ttc.candidate.v1", **changed: bytes | None) -> Headers:
    """Return CloudEvents headers; a changed one given as ``b"-"`` is left out."""
    given = {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_type": kind.encode(),
        "ce_source": b"/agent",
        "content-type": b"application/json",
    }
    return tuple((name, value) for name, value in (given | changed).items() if value != b"-")


def native(
    body: Mapping[str, Any], kind: str = "tunestream.ttc.candidate.v1", **changed: bytes | None
) -> Raw:
    """Return a record of a native event with the key that its body asks for."""
    key = encode_key(str(body.get("run_id") or RUN), str(body.get("example_id") or "e"))
    return Raw(key, json.dumps(body).encode(), headers(kind, **changed))


def nat(example: str, data: Any, *, step: Mapping[str, Any] | None = None, **changed: bytes | None) -> Raw:
    """Return a record of a NAT step that carries a candidate."""
    payload = {"event_type": "TTC_END", "name": STEP, "UUID": "u", "data": data} | dict(step or {})
    payload = {name: value for name, value in payload.items() if value is not ...}
    extensions = {"ce_tsrun": RUN.encode(), "ce_tsexample": example.encode()} | changed
    return Raw(
        encode_key(RUN, example),
        json.dumps({"payload": payload}).encode(),
        headers("nat.intermediate_step.v1", **extensions),
    )


def nested(levels: int) -> dict[str, Any]:
    """Return metadata of so many levels."""
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"deep": value}


def without(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a body without one field."""
    return {field: value for field, value in body.items() if field != name}


def _raw(name: str, value: bytes | None) -> Raw:
    return Raw(encode_key(RUN, name), value, headers())


def _undecodable() -> Iterator[Kind]:
    def kind(name: str, code: str, value: bytes | None) -> Kind:
        return Kind(name, code, _raw(name, value))

    yield kind("not JSON", "undecodable.json", b"turn over")
    yield kind("half of a JSON", "undecodable.json", b'{"run_id": "good", "exam')
    yield kind("two JSONs", "undecodable.json", b"{}{}")
    yield kind("empty body", "undecodable.empty", b"")
    yield kind("null body", "undecodable.empty", None)
    yield kind("invalid UTF-8", "undecodable.utf8", b'{"run_id": "\xff\xfe"}')
    yield kind("half a surrogate", "undecodable.json", rb'{"run_id": "\ud800"}')
    yield kind("deep nesting", "undecodable.nesting", b"[" * 100_000)
    yield Kind("neither key nor body", "undecodable.empty", Raw(None, None, headers()))
    yield kind("JSON array", "schema.wrong_type", b"[]")
    yield kind("JSON null", "schema.wrong_type", b"null")
    yield kind("number with 5,000 digits", "undecodable.json", b'{"candidate_index": ' + b"9" * 5_000 + b"}")


def _headers() -> Iterator[Kind]:
    def kind(name: str, code: str, **changed: bytes | None) -> Kind:
        return Kind(name, code, native(candidate(name), "tunestream.ttc.candidate.v1", **changed))

    for name in ("ce_id", "ce_type", "ce_source", "ce_specversion"):
        yield kind(f"without {name}", "undecodable.header", **{name: b"-"})
        yield kind(f"null {name}", "undecodable.header", **{name: None})
    yield kind("empty ce_id", "undecodable.header", ce_id=b"")
    yield kind("ce_specversion 0.3", "undecodable.header", ce_specversion=b"0.3")
    yield kind("ce_time is no time", "undecodable.header", ce_time=b"yesterday")
    yield kind("ce_time without offset", "undecodable.header", ce_time=b"2026-01-02T03:04:05")
    yield kind("ce_time before 1970", "undecodable.header", ce_time=b"0001-01-01T00:00:00+14:00")
    yield kind("long ce_time", "undecodable.header", ce_time=b"9" * (3 * MIB))
    yield kind("header is not UTF-8", "undecodable.header", ce_subject=b"\xff\xfe")
    yield kind("null extension", "undecodable.header", ce_subject=None)
    yield kind("unknown type", "unknown_type", ce_type=b"com.example.ping.v1")
    yield kind("type of another topic", "unknown_type", ce_type=b"tunestream.candidate.v1")
    yield kind("long unknown type", "unknown_type", ce_type=b"x" * (3 * MIB))
    yield kind("newer major version", "newer_type", ce_type=b"tunestream.ttc.candidate.v2")
    yield kind("newer NAT step", "newer_type", ce_type=b"nat.intermediate_step.v10")


def _fields() -> Iterator[Kind]:
    def kind(name: str, code: str, **fields: Any) -> Kind:
        return Kind(name, code, native(candidate(name, **fields)))

    for field_name in ("run_id", "example_id", "turn_id", "candidate_id", "prompt", "response", "score"):
        name = f"without {field_name}"
        yield Kind(name, "schema.missing", native(without(candidate(name), field_name)))
    for field_name in ("run_id", "example_id", "turn_id", "candidate_id"):
        yield kind(f"empty {field_name}", "schema.bounds", **{field_name: ""})
        yield kind(f"number as {field_name}", "schema.wrong_type", **{field_name: 7})
    yield kind("prompt is a number", "schema.wrong_type", prompt=1)
    yield kind("prompt message without role", "schema.missing", prompt=[{"content": "p"}])
    yield kind("response is a list", "schema.wrong_type", response=[])
    yield kind("response is null", "schema.wrong_type", response=None)
    yield kind("score is text", "schema.wrong_type", score="high")
    yield kind("score is null", "schema.wrong_type", score=None)
    yield kind("score NaN", "non_finite", score=float("nan"))
    yield kind("score +inf", "non_finite", score=float("inf"))
    yield kind("score -inf", "non_finite", score=float("-inf"))
    yield kind("score beyond ±1e150", "schema.score_range", score=1e151)
    yield kind("candidate_index 1.5", "schema.wrong_type", candidate_index=1.5)
    yield kind("negative expected_candidates", "schema.bounds", expected_candidates=-1)
    yield kind("no expected_candidates", "schema.bounds", expected_candidates=0)
    yield kind("metadata is a list", "schema.wrong_type", metadata=[])
    yield kind("metadata deeper than any stage keeps", "undecodable.nesting", metadata=nested(101))
    yield kind("metadata that a later stage cannot read", "undecodable.nesting", metadata=nested(198))
    yield kind("NaN inside metadata", "non_finite", metadata={"usage": [{"seconds": float("nan")}]})
    yield kind("infinity inside metadata", "non_finite", metadata={"seconds": float("-inf")})
    yield kind("unknown field", "schema.unknown_field", reward=1)
    yield kind("long turn_id", "schema.bounds", turn_id="t" * 513)
    yield kind("unknown run", "unknown_run", run_id=UNKNOWN_RUN, expected_candidates=1)
    name = "output too large"  # a number takes two bytes more as it is written
    numbers = ",".join(["1E2"] * 1_000_000)
    body = json.dumps(candidate(name, metadata={"n": []})).replace("[]", f"[{numbers}]").encode()
    yield Kind(name, "output_too_large", _raw(name, body))
    name = "score 1e400"
    body = json.dumps(candidate(name)).replace("0.5", "1e400").encode()
    yield Kind(name, "non_finite", _raw(name, body))


def _keys() -> Iterator[Kind]:
    for name, key in (
        ("wrong key", b"good/another"),
        ("no key", None),
        ("empty key", b""),
        ("key is not UTF-8", b"\xff\xfe"),
        ("key of 3 MiB", b"\0" * (3 * MIB)),
    ):
        record = native(candidate(name))
        yield Kind(name, "wrong_key", Raw(key, record.value, record.headers))


def _markers_and_episodes() -> Iterator[Kind]:
    name = "turn end without turn"
    ends = "tunestream.ttc.turn_end.v1"
    yield Kind(name, "schema.missing", native({"run_id": RUN, "example_id": name}, ends))
    name = "turn end with a score"
    body = {"run_id": RUN, "example_id": name, "turn_id": "t", "score": 1}
    yield Kind(name, "schema.unknown_field", native(body, ends))

    def episode(name: str, code: str, **fields: Any) -> Kind:
        items = [{"role": "user", "content": "u"}]
        body = {"run_id": EPISODE_RUN, "example_id": name, "episode_id": "1", "items": items, "reward": 1.0}
        return Kind(name, code, native(body | fields, "tunestream.ttc.episode.v1"))

    said = {"role": "assistant", "content": "a"}
    yield episode("episode without logprobs", "schema.value", items=[said])
    yield episode("empty episode", "schema.bounds", items=[])
    yield episode("unknown role", "schema.value", items=[{"role": "narrator", "content": "a"}])
    yield episode("episode reward NaN", "non_finite", reward=float("nan"))
    deep = {"role": "user", "content": "u", "metadata": nested(150)}
    yield episode("episode with a deep item", "undecodable.nesting", items=[deep])
    unreal = {"role": "user", "content": "u", "metadata": {"seconds": float("inf")}}
    yield episode("episode with infinity in an item", "non_finite", items=[unreal])
    yield episode("episode with NaN in its metadata", "non_finite", metadata={"seconds": float("nan")})
    yield episode("episode reward too large", "schema.score_range", reward=-1e200)


def _nat() -> Iterator[Kind]:
    data = {"turn_id": "t", "candidate_index": 0, "score": 0.5, "input": "p", "output": "r"}

    def kind(name: str, code: str, record: Raw) -> Kind:
        return Kind(name, code, record)

    name = "NAT without tsrun"
    yield kind(name, "schema.missing", nat(name, data, ce_tsrun=b"-"))
    name = "NAT without tsexample"
    yield kind(name, "schema.missing", nat(name, data, ce_tsexample=b"-"))
    name = "NAT empty tsrun"
    yield kind(name, "schema.missing", nat(name, data, ce_tsrun=b""))
    name = "NAT unknown run"
    yield kind(name, "unknown_run", nat(name, data, ce_tsrun=b"nobody"))
    name = "NAT run of 3 MiB"
    yield kind(name, "schema.bounds", nat(name, data, ce_tsrun=b"n" * (3 * MIB)))
    for missing in ("score", "turn_id", "output"):
        name = f"NAT without {missing}"
        yield kind(name, "schema.missing", nat(name, without(data, missing)))
    name = "NAT without data"
    yield kind(name, "schema.missing", nat(name, None))
    name = "NAT without UUID"
    yield kind(name, "schema.missing", nat(name, data, step={"UUID": ...}))
    name = "NAT without event_type"
    yield kind(name, "schema.missing", nat(name, data, step={"event_type": ...}))
    name = "NAT unknown event_type"
    yield kind(name, "schema.value", nat(name, data, step={"event_type": "TTC_MIDDLE"}))
    name = "NAT score NaN"
    yield kind(name, "non_finite", nat(name, data | {"score": float("nan")}))
    name = "NAT NaN inside metadata"
    yield kind(name, "non_finite", nat(name, data, step={"metadata": {"seconds": float("nan")}}))
    name = "NAT deep metadata"
    yield kind(name, "undecodable.nesting", nat(name, data, step={"metadata": nested(150)}))
    name = "NAT score is text"
    yield kind(name, "schema.wrong_type", nat(name, data | {"score": "high"}))
    name = "NAT empty turn_id"
    yield kind(name, "schema.bounds", nat(name, data | {"turn_id": ""}))
    name = "NAT data is text"
    yield kind(name, "schema.wrong_type", nat(name, "data"))
    name = "NAT example of 513"
    example = "e" * 513
    body = nat(example, None, step={"event_type": "WORKFLOW_END"})
    yield kind(name, "schema.bounds", body)


def _refused_by_pair_builder() -> Iterator[Kind]:
    def kind(name: str, code: str, record: Raw, *before: Raw, closes: bool = False) -> Kind:
        return Kind(name, code, record, before, closes, "ttc.candidates")

    def whole(name: str) -> Raw:
        return native(candidate(name, expected_candidates=1))

    name = "late"
    yield kind(name, "late", native(candidate(name, candidate_id="d")), whole(name), closes=True)
    name = "turn full"
    first, second, third = (
        native(candidate(name, run_id=SMALL_RUN, candidate_id=number)) for number in "123"
    )
    yield kind(name, "turn_full", third, first, second)
    name = "contradiction"
    yield kind(name, "contradiction", native(candidate(name, score=0.6)), native(candidate(name)))
    name = "contradiction of a closed turn"
    other = native(candidate(name, expected_candidates=1, score=0.6))
    yield kind(name, "contradiction", other, whole(name), closes=True)
    name = "episode for a run of turns"
    items = [{"role": "user", "content": "u"}]
    body = {"run_id": RUN, "example_id": name, "episode_id": "1", "items": items, "reward": 1.0}
    yield kind(name, "wrong_builder", native(body, "tunestream.ttc.episode.v1"))
    name = "turn for a run of episodes"
    yield kind(name, "wrong_builder", native(candidate(name, run_id=EPISODE_RUN)))


KINDS: Final = (
    *_undecodable(),
    *_headers(),
    *_fields(),
    *_keys(),
    *_markers_and_episodes(),
    *_nat(),
    *_refused_by_pair_builder(),
)
