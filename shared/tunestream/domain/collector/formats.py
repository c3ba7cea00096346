"""What deployments of a lower format write of a turn: single candidates and the end of the turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from tunestream.domain.collector.core import Normalised
from tunestream.domain.effects import Refused
from tunestream.events.messages import ChatMessage, OpenAIMessage
from tunestream.events.runs import FIRST_FORMAT, TURN_FORMAT
from tunestream.events.scores import ScoreStep
from tunestream.events.ttc import CandidateStep, TurnEnd
from tunestream.events.turns import TurnMember, TurnStep

__all__ = ["as_format", "in_pieces"]

_REMEDY: Final = "finish the upgrade and replay: tunestream upgrade finish, tunestream dlq replay"


def as_format(step: CandidateStep, number: int, dropped: Counter[str]) -> CandidateStep:
    """Return a candidate as deployments of format ``number`` write it.

    The first format knows role and content alone: there the rest of a message is dropped and counted.

    Raises:
        Refused: when without the rest the conversation would not be what it was, as with tool calls.
    """
    if number > FIRST_FORMAT or isinstance(step.prompt, str):
        return step
    if not any(isinstance(message, ChatMessage) for message in step.prompt):
        return step
    plain = [_plain(message, at, dropped) for at, message in enumerate(step.prompt)]
    return step.model_copy(update={"prompt": plain})


def in_pieces(step: Normalised, number: int) -> Iterator[Normalised]:
    """Yield what the deployment's format has of a normalised body: below that of turns, no turn as a whole.

    Args:
        step: normalised.
        number: the deployment's format.

    Raises:
        Refused: when single candidates and markers cannot hold it.
    """
    if number >= TURN_FORMAT or not isinstance(step, TurnStep | ScoreStep):
        yield step
    elif isinstance(step, ScoreStep):
        raise _beyond("a score that comes after its candidate", number)
    else:
        yield from _pieces(step, number)


def _pieces(step: TurnStep, number: int) -> Iterator[CandidateStep | TurnEnd]:
    for name in ("tools", "prompt_token_ids"):
        if getattr(step, name) is not None:
            raise _beyond(name, number)
    for at, member in enumerate(step.candidates):
        yield _single(step, member, at, number)
    if step.complete:
        yield TurnEnd(run_id=step.run_id, example_id=step.example_id, turn_id=step.turn_id)


def _single(step: TurnStep, member: TurnMember, at: int, number: int) -> CandidateStep:
    if member.score is None:
        raise Refused(
            "newer_type",
            f"candidates.{at}.score is missing; this deployment writes format {number}, in which none comes "
            f"later; {_REMEDY}",
        )
    if isinstance(member.response, ChatMessage):
        raise _beyond(f"candidates.{at}.response.tool_calls or reasoning_content", number)
    if member.token_ids is not None:
        raise _beyond(f"candidates.{at}.token_ids", number)
    return CandidateStep.of_valid(
        run_id=step.run_id,
        example_id=step.example_id,
        turn_id=step.turn_id,
        candidate_id=member.candidate_id,
        candidate_index=member.candidate_index,
        prompt=step.prompt,
        response=member.response,
        score=member.score,
        expected_candidates=step.expected_candidates,
        policy_version=member.policy_version,
        raw_metadata=member.raw_metadata,
    )


def _beyond(field: str, number: int) -> Refused:
    return Refused(
        "newer_type", f"{field}: this deployment writes format {number}, which has none; {_REMEDY}"
    )


def _plain(message: OpenAIMessage, at: int, dropped: Counter[str]) -> OpenAIMessage:
    if not isinstance(message, ChatMessage):
        return message
    if message.tool_calls is not None or not message.content:
        raise Refused(
            "schema.unknown_field",
            f"prompt.{at}.tool_calls: this deployment writes format 1, which has none; "
            "finish the upgrade: tunestream upgrade finish",
        )
    rest = message.model_dump(exclude={"role", "content"})
    dropped.update(rest.keys())
    return OpenAIMessage.of_valid(role=message.role, content=message.content)
