"""What goes to a deployment that holds no turn records: single candidates, and the ends of turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tunestream.events.runs import TURN_FORMAT
from tunestream.events.scores import TTCScore
from tunestream.events.ttc import TTCCandidate, TTCTurnEnd
from tunestream.events.turns import TTCTurn, TTCTurnCandidate
from tunestream.sdk.environment import turns_of_environment
from tunestream.streams.format import deployment_format

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings
    from tunestream.sdk.event_records import NativeEvent

__all__ = [
    "WHOLE",
    "NotInThisFormat",
    "TurnsGo",
    "beyond_single",
    "in_pieces",
    "piece_of",
    "refuse_present",
    "turns_go",
]


class NotInThisFormat(ValueError):
    """The deployment's format cannot hold what is published; the message names the field and the remedy."""

    def __init__(self, field: str, number: int) -> None:
        super().__init__(
            f"{field}: this deployment writes format {number}, in which candidates have a text and a score "
            "alone; finish the upgrade: tunestream upgrade finish"
        )


class TurnsGo(NamedTuple):
    """How turns are published.

    Attributes:
        whole: as one record; else as single candidates and an end.
        old_format: what the deployment writes, where that holds no turn records; else None.
    """

    whole: bool
    old_format: int | None


WHOLE = TurnsGo(whole=True, old_format=None)


async def turns_go(settings: KafkaSettings) -> TurnsGo:
    """Return what ``TUNESTREAM_SDK_TURNS`` decides, else the deployment's format.

    Raises:
        pydantic.ValidationError: when the variable is wrong.
        BrokerUnavailable: when no broker answers within 20 s.
    """
    if (wanted := turns_of_environment()) is not None:
        return TurnsGo(wanted == "whole", None)
    number = await deployment_format(settings)
    return WHOLE if number >= TURN_FORMAT else TurnsGo(whole=False, old_format=number)


def in_pieces(event: NativeEvent, go: TurnsGo) -> list[NativeEvent]:
    """Return what an event is published as, mostly itself.

    Raises:
        NotInThisFormat: when the deployment cannot hold it.
    """
    refuse_present({"score": isinstance(event, TTCScore)}, go.old_format)
    if go.whole or not isinstance(event, TTCTurn):
        return [event]
    _refuse_beyond(event, go.old_format)
    end = TTCTurnEnd(run_id=event.run_id, example_id=event.example_id, turn_id=event.turn_id)
    return [*(piece_of(event, one) for one in event.candidates), *[end] * event.complete]


def _refuse_beyond(turn: TTCTurn, number: int | None) -> None:
    """Make sure that single candidates hold a turn.

    Raises:
        NotInThisFormat: when they do not.
    """
    fields: dict[str, object] = {"tools": turn.tools, "prompt_token_ids": turn.prompt_token_ids}
    for at, candidate in enumerate(turn.candidates):
        fields |= {f"candidates.{at}.{name}": found for name, found in beyond_single(candidate).items()}
    refuse_present(fields, number)


def refuse_present(fields: Mapping[str, object], number: int | None) -> None:
    """Refuse the first field that is there, where the deployment writes a format that cannot hold it.

    Args:
        fields: by name.
        number: the format, None where it holds all of them.

    Raises:
        NotInThisFormat: naming the field.
    """
    if number is None:
        return
    for name, found in fields.items():
        if found:
            raise NotInThisFormat(name, number)


def piece_of(turn: TTCTurn, candidate: TTCTurnCandidate) -> TTCCandidate | TTCTurn:
    """Return a candidate as an event: as a part of the turn where a single candidate cannot hold it."""
    if any(beyond_single(candidate).values()) or turn.tools or turn.prompt_token_ids:
        return turn.model_copy(update={"candidates": [candidate], "complete": False})
    return TTCCandidate.of_valid(
        run_id=turn.run_id,
        example_id=turn.example_id,
        turn_id=turn.turn_id,
        candidate_id=candidate.candidate_id,
        candidate_index=candidate.candidate_index,
        prompt=turn.prompt,
        response=candidate.response,
        score=candidate.score,
        expected_candidates=turn.expected_candidates,
        policy_version=candidate.policy_version or turn.policy_version,
        metadata=candidate.metadata,
    )


def beyond_single(candidate: TTCTurnCandidate) -> Mapping[str, bool]:
    """Return, by field, whether a candidate has what ``tunestream.ttc.candidate.v1`` cannot hold."""
    return {
        "score": candidate.score is None,
        "response": not isinstance(candidate.response, str),
        "token_ids": candidate.token_ids is not None,
    }
