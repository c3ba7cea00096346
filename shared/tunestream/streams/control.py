"""Commands to the owner of a run: sent over ``training.control``, answered by the trainer that owns it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.training import ControlCommand, ControlResult
from tunestream.streams.broker.groups import group_lags
from tunestream.streams.publish import EventProducer, event_record
from tunestream.streams.reading import RecordReader, stored_events

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["NobodyAnswered", "send_command"]

_TRAINER: Final = {"trainer": ("training.control",)}


class NobodyAnswered(TimeoutError):
    """The owner of a run gave no answer in time. The command may still be carried out later."""


async def send_command(
    settings: KafkaSettings, command: ControlCommand, *, source: str, timeout: float
) -> ControlResult:
    """Send a command and return the owner's answer, which may be a refusal.

    Args:
        settings: the broker.
        command: its ``command_id`` is nobody else's.
        source: who asks, as in CloudEvents.
        timeout: seconds to wait for the answer.

    Raises:
        NobodyAnswered: with the likely reason.
        MissingTopic: when a topic does not exist.
    """
    async with RecordReader(
        settings, "training.control.results", from_beginning=False, run_id=command.run_id
    ) as answers:
        await _send(settings, command, source)
        try:
            async with asyncio.timeout(timeout):
                return await _answer(answers, command)
        except TimeoutError:
            reason = await _why_silent(settings)
            raise NobodyAnswered(
                f"no answer to {command.action} of run {command.run_id!r} within {timeout:g} s: {reason}; "
                "the command may still be carried out"
            ) from None


async def _send(settings: KafkaSettings, command: ControlCommand, source: str) -> None:
    envelope = Envelope(
        id=command.command_id, type=type_of(command), source=source, time=time.time_ns() // 1_000_000
    )
    async with EventProducer(settings) as producer:
        await producer.send(event_record("training.control", (command.run_id,), command.to_json(), envelope))


async def _answer(answers: RecordReader, command: ControlCommand) -> ControlResult:
    async for stored in stored_events(answers.forever()):
        body = stored.body
        if isinstance(body, ControlResult) and body.command_id == command.command_id:
            return body
    raise AssertionError("a reader of what comes never ends")


async def _why_silent(settings: KafkaSettings) -> str:
    (found,) = await group_lags(settings, _TRAINER)
    if not found.members:
        return "no trainer is running (tunestream up --only trainer)"
    return f"the trainer runs and is {found.lag} commands behind; its /health/ready shows why"
