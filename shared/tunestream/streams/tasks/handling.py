"""How records become effects: each is decoded, and handled or refused, in order."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from tunestream.domain.effects import Refused
from tunestream.streams.tasks.decoding import broker_time
from tunestream.streams.tasks.handler import Handler, Inbound
from tunestream.streams.tasks.inputs import Inputs
from tunestream.streams.tasks.transaction import Transaction

__all__ = ["handle"]


async def handle(
    records: Sequence[ConsumerRecord], handler: Handler, inputs: Inputs, work: Transaction, now: float
) -> None:
    """Have a handler turn records into effects.

    Args:
        records: of one partition number, in order.
        handler: of the partition.
        inputs: of its task.
        work: takes the effects, and the records that are refused.
        now: monotonic clock when the transaction began, seconds.
    """
    events = [_decode(record, inputs, work) for record in records]
    await handler.prepare([event for event in events if event is not None], now)
    outbound = work.effects.outbound
    for record, event in zip(records, events, strict=True):
        if event is None:
            handler.pass_over(broker_time(record), work.effects)
            continue
        before = len(outbound)
        try:
            handler.handle(event, work.effects)
        except Refused as refusal:
            work.refused.append((record, refusal))
        if event.envelope.passed_on:
            for output in outbound[before:]:
                output.trace = event.envelope.passed_on


def _decode(record: ConsumerRecord, inputs: Inputs, work: Transaction) -> Inbound | None:
    """Return a record to be handled; None for one that is refused or meant for another service."""
    if not inputs.takes(record):
        work.effects.counts["replayed_for_another"] += 1
        return None
    try:
        return inputs.decode(record)
    except Refused as refusal:
        work.refused.append((record, refusal))
        return None
