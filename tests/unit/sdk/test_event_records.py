"""The records of what agents publish."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import candidate_id
from tunestream.events.keys import decode_key
from tunestream.events.nat import IntermediateStep
from tunestream.events.scores import TTCScore
from tunestream.events.ttc import TTCCandidate, TTCExampleEnd, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.sdk.event_records import NativeEvent, nat_record, native_record, score_record
from tunestream.streams.publish import EventTooLarge
from tunestream.topics import topic

NOW = 1_767_323_045_678


def candidate(response: str = "a", example_id: str = "game/1") -> TTCCandidate:
    return TTCCandidate(
        run_id="run",
        example_id=example_id,
        turn_id="t",
        candidate_id="c",
        prompt="p",
        response=response,
        score=1.0,
    )


def test_a_native_event_is_a_cloud_event() -> None:
    record = native_record(candidate(), source="/agent/7", time=NOW)
    assert Envelope.from_headers(record.headers) == Envelope(
        id=candidate_id("run", "game/1", "t", "c"),
        type="tunestream.ttc.candidate.v1",
        source="/agent/7",
        time=NOW,
    )
    assert record.topic == "ttc.events"
    assert decode_key(record.key or b"") == ("run", "game/1")
    assert TTCCandidate.model_validate_json(record.value or b"") == candidate()


def test_ids_name_what_happened_and_not_when() -> None:
    end = TTCTurnEnd(run_id="run", example_id="game", turn_id="t")
    assert ce_id(end, NOW) == ce_id(end, NOW + 1)
    again = TTCExampleEnd(run_id="run", example_id="game")
    assert ce_id(again, NOW) != ce_id(again, NOW + 1)


def ce_id(event: TTCTurnEnd | TTCExampleEnd, time: int) -> str:
    return Envelope.from_headers(native_record(event, source="/a", time=time).headers).id


def test_a_turn_is_named_by_its_candidates() -> None:
    def named(*candidates: str) -> str:
        members = [TTCTurnCandidate(candidate_id=one, response="a") for one in candidates]
        turn = TTCTurn(run_id="run", example_id="g", turn_id="t", prompt="p", candidates=members)
        return Envelope.from_headers(native_record(turn, source="/a", time=NOW).headers).id

    assert named("1", "2") == named("1", "2")
    assert len({named("1", "2"), named("1"), named("2")}) == 3


SCORE = TTCScore(run_id="run", example_id="g", turn_id="t", candidate_id="c", score=1, source="ann")


def test_a_score_goes_to_the_partition_of_its_turn() -> None:
    record = score_record(SCORE, partition=3, source="/a", time=NOW)
    assert (record.partition, record.everywhere) == (3, False)
    envelope = Envelope.from_headers(record.headers)
    assert (envelope.type, envelope.extensions) == ("tunestream.ttc.score.v1", {})
    assert decode_key(record.key or b"") == ("run", "g")


def test_it_goes_everywhere_where_that_is_not_known() -> None:
    record = score_record(SCORE, partition=None, source="/a", time=NOW)
    assert (record.partition, record.everywhere) == (None, True)
    assert Envelope.from_headers(record.headers).extensions == {"tseverywhere": "1"}


@pytest.mark.parametrize(
    "event",
    [
        SCORE.model_copy(update={"metadata": {"\ud83d": 1}}),
        TTCTurn(
            run_id="r",
            example_id="e",
            turn_id="t",
            prompt="p",
            candidates=[TTCTurnCandidate(candidate_id="c", response="a", metadata={"\ud83d": 1})],
        ),
        TTCTurn(
            run_id="r",
            example_id="e",
            turn_id="t",
            prompt="\ud83d",
            candidates=[TTCTurnCandidate(candidate_id="c", response="a")],
        ),
    ],
)
def test_text_that_utf8_cannot_hold_is_refused(event: NativeEvent) -> None:
    with pytest.raises(ValidationError, match="not text: lone surrogate"):
        native_record(event, source="/a", time=NOW)


def test_a_step_is_sent_byte_for_byte_with_its_run_and_example() -> None:
    payload = json.dumps(
        {"payload": {"event_type": "TTC_END", "UUID": "u", "new": 1}, "later": True}, indent=3
    ).encode()
    record = nat_record("run", "7", payload, source="/nat", time=NOW)
    envelope = Envelope.from_headers(record.headers)
    assert record.value == payload
    assert envelope.type == "nat.intermediate_step.v1"
    assert envelope.extensions == {"tsrun": "run", "tsexample": "7"}
    assert decode_key(record.key or b"") == ("run", "7")


def test_the_start_and_the_end_of_a_step_have_different_ids() -> None:
    def named(kind: str) -> str:
        payload = json.dumps({"payload": {"event_type": kind, "UUID": "u"}}).encode()
        return Envelope.from_headers(nat_record("r", "e", payload, source="/n", time=NOW).headers).id

    assert named("TTC_START") != named("TTC_END")


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(ValidationError, match="payload"):
        nat_record("run", "7", b"{}", source="/nat", time=NOW)


def test_a_given_step_is_not_parsed_again() -> None:
    step = IntermediateStep.model_validate({"payload": {"event_type": "TTC_END"}})
    assert nat_record("run", "7", b"raw", source="/nat", time=NOW, step=step).value == b"raw"


def test_too_large_is_refused_before_it_is_sent() -> None:
    with pytest.raises(EventTooLarge, match=r"ttc\.events takes 4,194,304"):
        native_record(candidate("x" * topic("ttc.events").max_message_bytes), source="/a", time=NOW)


def test_the_key_counts_towards_the_size() -> None:
    largest = topic("ttc.events").max_message_bytes - 1500
    native_record(candidate("x" * largest, example_id="e"), source="/a", time=NOW)
    with pytest.raises(EventTooLarge):
        native_record(candidate("x" * largest, example_id="é" * 300), source="/a", time=NOW)
