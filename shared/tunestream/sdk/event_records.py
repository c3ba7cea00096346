"""From what an agent publishes to records of ``ttc.events``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pydantic_core import PydanticSerializationError

from tunestream.events.cloudevents import Envelope
from tunestream.events.ids import candidate_id, content_digest, episode_id, stable_id
from tunestream.events.nat import IntermediateStep
from tunestream.events.registry import type_of
from tunestream.events.scores import EVERYWHERE, TTCScore
from tunestream.events.ttc import TTCCandidate, TTCEpisode, TTCExampleEnd, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.sdk.text import check_text
from tunestream.streams.publish import EncodedRecord, event_record

__all__ = ["TOPIC", "NativeEvent", "nat_record", "native_record", "score_record"]

TOPIC: Final = "ttc.events"
NativeEvent = TTCTurn | TTCCandidate | TTCScore | TTCTurnEnd | TTCExampleEnd | TTCEpisode


def native_record(
    event: NativeEvent, *, source: str, time: int, extensions: Mapping[str, str] | None = None
) -> EncodedRecord:
    """Return the record of a native event.

    Args:
        event: the body.
        source: the agent, as a CloudEvents source.
        time: when it happened, milliseconds since the epoch.
        extensions: more CloudEvents attributes.

    Raises:
        pydantic.ValidationError: naming the field with a text that cannot be written as UTF-8.
        EventTooLarge: when it is larger than the topic takes.
    """
    envelope = Envelope(
        id=_event_id(event, time), type=type_of(event), source=source, time=time, extensions=extensions or {}
    )
    return event_record(TOPIC, (event.run_id, event.example_id), _payload(event), envelope)


def score_record(score: TTCScore, *, partition: int | None, source: str, time: int) -> EncodedRecord:
    """Return the record of a score, which has to lie in the partition of its turn.

    Args:
        score: the body.
        partition: in which the turn lies; None sends a copy to every one.
        source: who scores, as a CloudEvents source.
        time: when it happened, milliseconds since the epoch.

    Raises:
        pydantic.ValidationError: naming the field with a text that cannot be written as UTF-8.
        EventTooLarge: when it is larger than the topic takes.
    """
    extensions = {EVERYWHERE: "1"} if partition is None else {}
    record = native_record(score, source=source, time=time, extensions=extensions)
    return replace(record, partition=partition, everywhere=partition is None)


def _payload(event: NativeEvent) -> bytes:
    name = type(event).__name__
    if isinstance(event, TTCTurn):
        check_text(
            name, {"tools": event.tools, "candidates": [_of_any_shape(one) for one in event.candidates]}
        )
    elif isinstance(event, TTCCandidate | TTCEpisode | TTCScore) and event.metadata:
        check_text(name, {"metadata": event.metadata})
    try:
        return event.to_json()
    except PydanticSerializationError:
        check_text(name, event.model_dump())
        raise


def _of_any_shape(candidate: TTCTurnCandidate) -> dict[str, object]:
    """Return the fields whose keys would be written as other ones where UTF-8 cannot hold them."""
    return {"response": candidate.response, "metadata": candidate.metadata}


def _event_id(event: NativeEvent, time: int) -> str:
    """Name an event by its content; an example may end more than once, so its end is named by time too."""
    match event:
        case TTCTurn():
            names = [candidate.candidate_id for candidate in event.candidates]
            return stable_id("turn", event.run_id, event.example_id, event.turn_id, *names)
        case TTCScore():
            of = (event.run_id, event.example_id, event.turn_id, event.candidate_id)
            return stable_id("score", *of, event.source, repr(event.score))
        case TTCCandidate():
            return candidate_id(event.run_id, event.example_id, event.turn_id, event.candidate_id)
        case TTCEpisode():
            return episode_id(event.run_id, event.example_id, event.episode_id)
        case TTCTurnEnd():
            return stable_id("turn-end", event.run_id, event.example_id, event.turn_id)
        case TTCExampleEnd():
            return stable_id("example-end", event.run_id, event.example_id, str(time))


def nat_record(
    run_id: str,
    example_id: str,
    payload: bytes,
    *,
    source: str,
    time: int,
    step: IntermediateStep | None = None,
    extensions: Mapping[str, str] | None = None,
) -> EncodedRecord:
    """Return the record of a NAT IntermediateStep, whose body names neither run nor example.

    Args:
        run_id: the run that it is for.
        example_id: the example that it belongs to.
        payload: the step's JSON, sent as it is.
        source: the agent, as a CloudEvents source.
        time: when it happened, milliseconds since the epoch.
        step: the parsed step, when the caller has it.
        extensions: more CloudEvents attributes.

    Raises:
        pydantic.ValidationError: when ``payload`` is no step.
        EventTooLarge: when it is larger than the topic takes.
    """
    parsed = step or IntermediateStep.model_validate_json(payload)
    named = parsed.payload.UUID or content_digest(payload)
    envelope = Envelope(
        id=stable_id("step", run_id, example_id, parsed.payload.event_type, named),
        type=type_of(IntermediateStep),
        source=source,
        time=time,
        extensions={"tsrun": run_id, "tsexample": example_id, **(extensions or {})},
    )
    return event_record(TOPIC, (run_id, example_id), payload, envelope)
