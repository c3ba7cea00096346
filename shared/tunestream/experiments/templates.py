"""Templates: columns in braces that become prompt and answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Any

from tunestream.config.experiment.data import DataConfig, columns_of
from tunestream.events.messages import Prompt
from tunestream.rows.cells import Reading, read_answer, read_conversation, read_prompt, unwritten
from tunestream.rows.left_out import Unusable
from tunestream.rows.messages import are_messages
from tunestream.rows.tables import written_as

__all__ = ["read_templates"]

Values = Mapping[str, Any]


def read_templates(row: Values, data: DataConfig, dropped: Counter[str]) -> Reading:
    """Read a row by the templates of ``data``, or by its column of messages.

    What is missing is empty, nested values are JSON. Messages are never made text: a template of one column
    that holds them gives messages as a prompt, and the text of one message as an answer.

    Args:
        row: the values of all columns that ``data`` names.
        data: with templates.
        dropped: counts the keys of messages that are left out.

    Raises:
        Unusable: when messages are none that can be trained on, or a value is no text of its template.
    """
    if data.messages is not None and data.chosen is None:
        return read_conversation(row[data.messages], data.messages, dropped)
    rejected = None if data.rejected is None else _answer(data.rejected, row, dropped)
    return Reading(
        _prompt(row, data, dropped), _answer(data.chosen or data.prompt_stub, row, dropped), rejected
    )


def _prompt(row: Values, data: DataConfig, dropped: Counter[str]) -> Prompt:
    if data.messages is not None:
        messages = read_prompt(row[data.messages], data.messages, dropped)
        if isinstance(messages, str):
            raise Unusable("bad_messages", f"{data.messages}: is text or missing; give a list of messages")
        return messages
    column = _messages_of(data.prompt, row)
    return _rendered(str(data.prompt), row) if column is None else read_prompt(row[column], column, dropped)


def _answer(template: str | None, row: Values, dropped: Counter[str]) -> str:
    column = _messages_of(template, row)
    return _rendered(str(template), row) if column is None else read_answer(row[column], column, dropped)


def _messages_of(template: str | None, row: Values) -> str | None:
    """Return the column that is all of a template, when it holds messages or one of them."""
    columns = columns_of(template)
    if len(columns) != 1 or template != f"{{{columns[0]}}}":
        return None
    value = unwritten(row[columns[0]], columns[0])
    return columns[0] if are_messages(value) or are_messages([value]) else None


def _rendered(template: str, row: Values) -> str:
    parts = []
    for literal, name, spec, _ in Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            parts.append(_text(row[name], name, spec or ""))
    return "".join(parts)


def _text(value: object, column: str, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        raise Unusable("not_text", f"{column}: holds bytes that are no text in UTF-8")
    if not isinstance(value, dict | list):
        return _formatted(value, column, spec)
    if are_messages(value) or are_messages([value]):
        raise Unusable("bad_messages", f"{column}: holds messages, which are no part of a text")
    try:
        return json.dumps(value, ensure_ascii=False, default=written_as)
    except TypeError as error:
        raise Unusable("not_text", f"{column}: {error}") from None


def _formatted(value: object, column: str, spec: str) -> str:
    try:
        return format(value, spec)
    except (TypeError, ValueError) as error:
        raise Unusable("not_text", f"{column}: cannot be written as {{{column}:{spec}}}: {error}") from None
