"""Formats of training data that are known by their columns."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["RowFormat"]


class RowFormat(StrEnum):
    """What the columns of a file are."""

    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    PREFERENCE = "preference"
    KTO = "kto"
    TEXT = "text"
