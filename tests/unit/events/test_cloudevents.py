"""CloudEvents attributes as record headers, and times as they are written."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunestream.events import cloudevents
from tunestream.events.cloudevents import Envelope, HeaderError, format_time, parse_time

LAST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
TIMES = st.integers(0, LAST)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
RESERVED = {"specversion", "id", "type", "source", "time"}
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in RESERVED
)
TRACE = st.sampled_from([(), (("traceparent", b"00-1-2-01"),), (("traceparent", b"x"), ("tracestate", b"y"))])
ENVELOPES = st.builds(
    Envelope,
    id=TEXT,
    type=TEXT,
    source=TEXT,
    time=st.none() | TIMES,
    extensions=st.dictionaries(NAMES, TEXT, max_size=4),
    passed_on=TRACE,
)

HEADERS: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": b"1",
    "ce_type": b"tunestream.tick.v1",
    "ce_source": b"/agent",
}


TRACE_HEADERS = (("traceparent", b"00-1-2-01"),)
VALUE = (
    st.none()
    | st.sampled_from([b"", b"1.0", b"\xff", "é".encode(), b"2026-01-02T03:04:05.678Z"])
    | st.binary()
)
SENT = st.lists(
    st.tuples(
        st.sampled_from(
            [*HEADERS, "ce_time", "ce_tsrun", "ce_", "traceparent", "tracestate", "content-type"]
        ),
        VALUE,
    ),
    max_size=4,
)
WRITTEN = st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z\Z")


@given(ENVELOPES)
def test_headers_are_read_as_they_were_written(envelope: Envelope) -> None:
    assert Envelope.from_headers(envelope.to_headers()) == envelope


@given(ENVELOPES, st.randoms(use_true_random=False))
def test_the_order_of_headers_means_nothing(envelope: Envelope, random: Random) -> None:
    headers = envelope.to_headers()
    random.shuffle(headers)
    read = Envelope.from_headers(headers)
    assert (read.id, read.time, read.extensions) == (envelope.id, envelope.time, envelope.extensions)


def test_the_binding_is_the_binary_mode() -> None:
    headers = dict(Envelope("1", "a.v1", "/s", 0, {"tsrun": "r"}, (("traceparent", b"00"),)).to_headers())
    assert headers == {
        "ce_specversion": b"1.0",
        "content-type": b"application/json",
        "ce_id": b"1",
        "ce_type": b"a.v1",
        "ce_source": b"/s",
        "ce_time": b"1970-01-01T00:00:00.000Z",
        "ce_tsrun": b"r",
        "traceparent": b"00",
    }


@given(TIMES)
@example(70_202_119_476_622)
def test_times_are_exact_to_the_millisecond(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds


@given(TIMES, TIMES)
def test_written_times_sort_as_they_are(one: int, other: int) -> None:
    assert (format_time(one) < format_time(other)) is (one < other)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
        ("2026-01-02T05:04:05.678+02:00", 1_767_323_045_678),
        ("2026-01-01T20:34:05.678-06:30", 1_767_323_045_678),
        ("2026-01-02T03:04:05.678999Z", 1_767_323_045_678),
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("9999-12-31T23:59:59.999Z", LAST),
    ],
)
def test_times_of_any_offset_and_precision_are_read(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


BAD_TIMES = [
    "",
    "yesterday",
    "1767323045678",
    "2026-01-02T03:04:05.678",
    "2026-01-02",
    "2026-13-01T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999-01:00",
]


@pytest.mark.parametrize("text", BAD_TIMES)
def test_what_is_no_time_is_refused_by_the_name_of_its_header(text: str) -> None:
    headers = {**HEADERS, "ce_time": text.encode()}
    with pytest.raises(HeaderError, match=r"ce_time is .*RFC 3339"):
        Envelope.from_headers(headers.items())


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_type", "ce_source"])
def test_a_missing_attribute_is_named(name: str) -> None:
    headers = {key: value for key, value in HEADERS.items() if key != name}
    with pytest.raises(HeaderError, match=f"{name} is missing"):
        Envelope.from_headers(headers.items())


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source"])
def test_an_empty_attribute_is_refused(name: str) -> None:
    with pytest.raises(HeaderError, match=f"{name}.* empty"):
        Envelope.from_headers((HEADERS | {name: b""}).items())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("ce_specversion", b"0.3"), "ce_specversion is '0.3'"),
        (("ce_id", b"\xff"), "ce_id is not UTF-8"),
        (("ce_tsrun", b"\xc3("), "ce_tsrun is not UTF-8"),
        (("ce_tsrun", None), "ce_tsrun has no value"),
    ],
)
def test_a_bad_header_is_named(header: tuple[str, bytes | None], message: str) -> None:
    with pytest.raises(HeaderError, match=message):
        Envelope.from_headers((HEADERS | dict([header])).items())


def test_headers_of_others_mean_nothing() -> None:
    others: dict[str, bytes | None] = {"x": b"\xff\xfe", "y": None, "tracestate": b"a" * 5000}
    assert Envelope.from_headers((HEADERS | others).items()) == Envelope.from_headers(HEADERS.items())


def _read(headers: tuple[tuple[str, bytes | None], ...]) -> Envelope | str:
    try:
        return Envelope.from_headers(headers)
    except HeaderError as error:
        return str(error)


@given(SENT, WRITTEN, st.booleans())
@example([], "2026-01-02T03:04:05.67²Z", False)
@example([("traceparent", b"x" * 1025), ("tracestate", b"y")], "1969-12-31T23:59:59.999Z", False)
def test_the_usual_way_reads_headers_as_the_other_does(
    sent: list[tuple[str, bytes | None]], written: str, last: bool
) -> None:
    usual = [*HEADERS.items(), ("ce_time", written.encode()), ("ce_tsexample", b"e"), *TRACE_HEADERS]
    headers = tuple([*usual, *sent] if last else [*sent, *usual])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloudevents, "_read_usual", lambda _headers: None)
        expected = _read(headers)
    assert _read(headers) == expected
