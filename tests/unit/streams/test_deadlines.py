"""No error ends in an empty text."""

from __future__ import annotations

import asyncio

import pytest

from tunestream.streams.broker.deadlines import deadline, words


async def test_a_deadline_says_what_took_too_long() -> None:
    with pytest.raises(TimeoutError, match=r"reading took longer than 0.01 s; does the broker answer\?"):
        async with deadline(0.01, "reading"):
            await asyncio.sleep(60)


async def test_a_time_out_of_what_is_inside_keeps_its_own_words() -> None:
    with pytest.raises(TimeoutError, match="of its own"):
        async with deadline(60, "reading"):
            raise TimeoutError("of its own")


def test_an_error_without_a_message_is_named_with_its_cause() -> None:
    assert words(ValueError("wrong")) == "ValueError: wrong"
    assert words(TimeoutError()) == "TimeoutError (no message)"
    ended = TimeoutError()
    ended.__context__ = asyncio.CancelledError()
    assert words(ended) == "TimeoutError: no answer in time"
    outer = TimeoutError()
    outer.__cause__ = OSError("disk full")
    assert words(outer) == "TimeoutError, caused by OSError: disk full"
