"""From a Kafka record to a typed event, or to a refusal with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import ConsumerRecord
from pydantic import BaseModel, ValidationError

from tunestream.domain.effects import Refused
from tunestream.domain.refusals import refusal_of
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope, HeaderError
from tunestream.events.registry import is_newer
from tunestream.events.views.base import View
from tunestream.streams.fetch.undecodable import Undecodable
from tunestream.streams.tasks.handler import Inbound

__all__ = ["broker_time", "decode"]

_NO_VIEWS: Final[Mapping[str, type[View]]] = {}
_LOG_APPEND_TIME: Final = 1  # Kafka's number for it
# A type may be of any size, and the types that the topic takes should be seen after it.
_TYPE_LENGTH: Final = 100


def decode(
    record: ConsumerRecord,
    accepted: Mapping[str, type[BaseModel]],
    *,
    views: Mapping[str, type[View]] = _NO_VIEWS,
    of_services: bool = False,
) -> Inbound:
    """Decode one record.

    Args:
        record: as consumed, value and key in bytes.
        accepted: the body class of each type that its topic takes, from :meth:`.Topic.bodies`.
        views: of those of the types that have one; then the decoded body is a view.
        of_services: whether only services write its topic: then fields that are not known are left out, since
            a later release may have added them; elsewhere they are the sender's fault.

    Raises:
        Refused: with the reason and the remedy.
    """
    if isinstance(record, Undecodable):
        raise record.refusal
    try:
        envelope = Envelope.from_headers(record.headers)
    except HeaderError as error:
        raise Refused("undecodable.header", str(error)) from error
    body = accepted.get(envelope.type)
    if body is None:
        raise _unread(envelope.type, accepted)
    value = record.value
    if not value:
        raise Refused("undecodable.empty", f"the body is empty; send the JSON of a {body.__name__}")
    view = views.get(envelope.type)
    decoded: BaseModel | View | None = None if view is None else view.read(value)
    if decoded is None:
        try:
            reader = body.received() if issubclass(body, Wire) else body
            decoded = reader.model_validate_json(value, extra="ignore" if of_services else None)
        except ValidationError as error:
            raise refusal_of(error, body.__name__) from error
        if view is not None:
            decoded = view.taken(decoded)
    return Inbound(
        record.key,
        value,
        record.timestamp,
        record.partition,
        record.offset,
        envelope,
        decoded,
        record.timestamp_type == _LOG_APPEND_TIME,
    )


def broker_time(record: ConsumerRecord) -> int | None:
    """Return when the broker took a record, ms; None on a topic without LogAppendTime."""
    return int(record.timestamp) if record.timestamp_type == _LOG_APPEND_TIME else None


def _unread(ce_type: str, accepted: Iterable[str]) -> Refused:
    """Return the refusal of a type that the topic does not take."""
    known = ", ".join(sorted(accepted))
    if is_newer(ce_type, accepted):
        return Refused(
            "newer_type",
            f"header ce_type is {ce_type!r}, but this release reads {known}; upgrade the service, and replay "
            "what it refused",
        )
    shown = ce_type[:_TYPE_LENGTH]
    return Refused("unknown_type", f"header ce_type is {shown!r}; this topic takes {known}")
