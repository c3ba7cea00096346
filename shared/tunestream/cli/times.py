"""Times in the past as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from tunestream.config.run.durations import milliseconds, parse_duration

__all__ = ["past_time"]

_EPOCH = datetime.fromtimestamp(0, UTC)


def past_time(text: str, now: int, option: str) -> int:
    """Read a time as milliseconds since the epoch.

    Args:
        text: how long ago it was, e.g. 1h, or a date or time in ISO 8601; without an offset it is UTC.
        now: milliseconds since the epoch.
        option: that it was given to, for the message.

    Raises:
        typer.BadParameter: when it is neither.
    """
    try:
        return now - milliseconds(parse_duration(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write how long ago it was, such as 1h or 7d, or a time such as "
            "2026-01-02T03:04:05Z",
            param_hint=option,
        ) from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)
