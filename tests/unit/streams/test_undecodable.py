"""What cannot be decoded is delivered in its place, and costs no more than itself."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.raw_batches import BAD_NAME, CODECS, batch, marker, resealed
from tunestream.streams.fetch.codecs import MAX_BATCH_BYTES
from tunestream.streams.fetch.tap import deliver_undecodable
from tunestream.streams.fetch.undecodable import Undecodable
from tunestream.streams.fetch.walking import FetchedRecords, WalkedRecords

PLACE = TopicPartition("ttc.events", 3)
VALUES = [b"v%d" % number * 50 for number in range(4)]
COMPRESSED = sorted(set(CODECS) - {"none"})


def read(
    *batches: bytes, position: int = 0, aborted: Sequence[tuple[int, int]] = (), highwater: int = 1000
) -> tuple[list[ConsumerRecord], int]:
    """Return what a fetch delivers, and where the next one begins."""
    records = _through_the_tap(b"".join(batches), position, aborted, highwater)
    return list(records), records.next_fetch_offset


def _through_the_tap(
    raw: bytes, position: int, aborted: Sequence[tuple[int, int]], highwater: int
) -> PartitionRecords:
    """Make a result as the client's fetcher does, with the tap on it."""

    class Fetching:
        """As much of the client's fetcher as the tap touches."""

        def __init__(self) -> None:
            self._client = None
            self._records: dict[TopicPartition, FetchResult] = {}

        async def _proc_fetch_request(self, _assignment: object, _node: int, _request: object) -> bool:
            plain = PartitionRecords(PLACE, MemoryRecords(raw), [*aborted], position, None, None, True, 1)
            self._records[PLACE] = FetchResult(PLACE, assignment=None, partition_records=plain, backoff=0)
            tap._fetched = {PLACE: (raw, highwater)}
            return True

    fetcher: Any = Fetching()
    deliver_undecodable(fetcher)
    tap = fetcher._client
    with pytest.raises(StopIteration):
        fetcher._proc_fetch_request(None, 0, None).send(None)
    records: PartitionRecords = fetcher._records[PLACE]._partition_records
    return records


def offsets(records: Sequence[ConsumerRecord]) -> list[tuple[int, int, str]]:
    """Return first and last offset of each record and the code of its refusal."""
    return [
        (record.first_offset, record.offset, record.refusal.code)
        if isinstance(record, Undecodable)
        else (record.offset, record.offset, "")
        for record in records
    ]


def test_the_seam_is_where_it_was() -> None:
    """The client's names that are stood between; a new version that moves them has to be read again."""
    assert {"_unpack_records", "_consume_aborted_up_to", "_consumer_record"} <= set(vars(PartitionRecords))
    assert {"_proc_fetch_request", "fetched_records", "seek_to"} <= set(vars(Fetcher))
    made = PartitionRecords(PLACE, MemoryRecords(b""), None, 7, None, None, True, 1)
    kept = {"_tp", "_aborted_transactions", "_key_deserializer", "_value_deserializer", "_check_crcs"}
    assert kept | {"_isolation_level", "next_fetch_offset", "_aborted_producers"} <= set(vars(made))
    assert "_partition_records" in vars(
        FetchResult(PLACE, assignment=None, partition_records=made, backoff=0)
    )


@pytest.mark.parametrize("codec", CODECS)
def test_whole_batches_are_read_as_the_client_reads_them(codec: str) -> None:
    made = batch(5, VALUES, codec=codec, headers=[("name", b"x"), ("none", b"")])

    found, following = read(made, position=6)

    plain = list(PartitionRecords(PLACE, MemoryRecords(made), [], 6, None, None, True, 1))
    assert found == plain
    assert [record.value for record in found] == VALUES[1:]
    assert following == 9


def test_a_fetch_that_is_dropped_half_read_is_freed_at_once() -> None:
    raw = batch(0, VALUES)
    client_view = PartitionRecords(PLACE, MemoryRecords(raw), [], 0, None, None, True, 1)
    walked = WalkedRecords(client_view, raw, 1000)
    records, held = FetchedRecords(walked), [weakref.ref(walked), weakref.ref(client_view)]
    del walked, client_view
    assert next(records).value == VALUES[0]
    gc.disable()
    try:
        del records
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_costs_its_record_alone(codec: str) -> None:
    before, made, after = batch(0, VALUES), batch(4, VALUES, codec=codec, bad=[1, 3]), batch(8, VALUES)

    found, following = read(before, made, after)

    bad = [
        (number, number, "undecodable.header") if number in {5, 7} else (number, number, "")
        for number in range(12)
    ]
    assert offsets(found) == bad
    assert following == 12
    assert BAD_NAME in found[5].value
    assert VALUES[1] in found[5].value
    assert (found[5].key, found[5].timestamp, found[5].headers) == (b"k1", 1001, ())
    assert (found[6].key, found[6].value, found[6].headers) == (b"k2", VALUES[2], ())
    assert "header 1 is not UTF-8" in found[5].refusal.message


def _flipped(made: bytes, at: int = 70) -> bytes:
    changed = bytearray(made)
    changed[at] ^= 0xFF
    return bytes(changed)


DAMAGED = {
    "checksum": (_flipped(batch(4, VALUES)), "checksum is wrong"),
    "codec": (resealed(_flipped(batch(4, VALUES, codec="zstd"), 63)), "zstd data cannot be decompressed"),
    "unknown codec": (
        resealed(_flipped(batch(4, VALUES), 22)[:22] + b"\x07" + batch(4, VALUES)[23:]),
        "the number 7",
    ),
    "truncated": (resealed(batch(4, VALUES)[:-20]), "batch holds"),
    "lz4 cut": (resealed(batch(4, VALUES, codec="lz4")[:-12]), "lz4 data cannot"),
    "gzip cut": (resealed(batch(4, VALUES, codec="gzip")[:-12]), "ends too early"),
    "snappy cut": (resealed(batch(4, VALUES, codec="snappy")[:-12]), "ends too early"),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("last", [False, True])
def test_a_damaged_batch_costs_the_batch(kind: str, last: bool) -> None:
    made, reason = DAMAGED[kind]
    before, after = batch(0, VALUES), batch(8, VALUES)

    found, following = read(before, made, *([] if last else [after]))

    lost = [record for record in found if isinstance(record, Undecodable)]
    assert len(lost) == 1
    assert lost[0].value == made
    assert reason in lost[0].refusal.message
    read_before = lost[0].first_offset - 4 if kind == "truncated" else 0
    assert offsets(found) == [
        *((number, number, "") for number in range(4 + read_before)),
        (4 + read_before, 7, "undecodable.batch"),
        *((number, number, "") for number in range(8, 12) if not last),
    ]
    assert following == (8 if last else 12)


def test_a_fetch_within_a_damaged_batch_stands_for_the_rest() -> None:
    made, _ = DAMAGED["checksum"]
    assert offsets(read(made, position=6)[0]) == [(6, 7, "undecodable.batch")]


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_bomb_is_refused_before_it_is_in_memory(codec: str) -> None:
    made = batch(0, [b"a" * (MAX_BATCH_BYTES + 1)], codec=codec)

    found, following = read(made, batch(1, VALUES))

    assert offsets(found)[0] == (0, 0, "undecodable.batch")
    assert "more than 64 MiB" in found[0].refusal.message
    assert [record.value for record in found[1:]] == VALUES
    assert following == 5


def test_many_batches_within_the_limit_are_not_in_memory_together() -> None:
    """A fetch of 4 MiB holds hundreds of those, of every codec."""
    made = [batch(number, [b"a" * (10 << 20)], codec="zstd") for number in range(3)]

    found, following = read(*made)
    assert [record.offset for record in found] == [0, 1]
    assert following == 2, "the next fetch goes on there"

    found, following = read(*made[2:], position=2)
    assert [record.offset for record in found] == [2]
    assert following == 3


def test_a_damaged_batch_that_looks_like_the_mark_of_a_transaction_is_no_silence() -> None:
    looks = bytearray(batch(4, VALUES))
    looks[22] |= 0x20
    found, following = read(batch(0, VALUES), bytes(looks), batch(8, VALUES))
    assert offsets(found)[4] == (4, 7, "undecodable.batch")
    assert following == 12


def test_aborted_batches_are_passed_over_also_when_damaged() -> None:
    aborted, committed = 7, 8
    found, following = read(
        batch(0, VALUES, producer=aborted, bad=[0]),
        _flipped(batch(4, VALUES, producer=aborted)),
        batch(8, VALUES, producer=committed, bad=[2]),
        _flipped(marker(12, aborted, commit=False)),
        batch(13, VALUES, producer=aborted),
        marker(17, committed, commit=True),
        marker(18, aborted, commit=True),
        aborted=[(aborted, 0)],
    )

    assert offsets(found) == [
        *((number, number, "undecodable.header" if number == 10 else "") for number in range(8, 12)),
        (12, 12, "undecodable.batch"),  # the damaged mark: its offset holds no record, and is told
        *((number, number, "") for number in range(13, 17)),
    ]
    assert following == 19


def test_a_damaged_end_takes_no_offsets_that_are_not_there() -> None:
    """The end of a damaged batch is not believed: an absurd one is left to `tunestream dlq skip`."""
    changed = bytearray(batch(0, VALUES))
    struct.pack_into(">i", changed, 23, 1 << 30)
    with pytest.raises(Exception, match="its end cannot be known"):
        read(bytes(changed), highwater=4)
    assert offsets(read(bytes(changed), batch(4, VALUES))[0])[0] == (0, 3, "undecodable.batch")


def test_a_batch_that_the_fetch_cut_off_is_left_for_the_next() -> None:
    found, following = read(batch(0, VALUES), batch(4, VALUES)[:-1])
    assert len(found) == following == 4


@given(st.data())
@settings(max_examples=200)
def test_any_damage_is_told_and_harms_no_neighbour(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(sorted(CODECS)))
    made = bytearray(batch(4, VALUES, codec=codec))
    at = data.draw(st.integers(21, len(made) - 1))
    made[at] ^= data.draw(st.integers(1, 255))
    again = data.draw(st.booleans())
    damaged = resealed(made) if again else bytes(made)

    found, following = read(batch(0, VALUES), damaged, batch(8, VALUES))

    kept = [record for record in found if not isinstance(record, Undecodable)]
    assert [record.value for record in kept if record.offset not in range(4, 8)] == VALUES * 2
    assert following == 12
    if not again:  # the checksum shows it, whatever the header says that the batch is
        assert [offset for offset in offsets(found) if offset[2]] == [(4, 7, "undecodable.batch")]
