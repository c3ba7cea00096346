"""The rows of a JSON document, read piece by piece: an array of objects, or an object that holds one."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from itertools import count
from typing import IO, Any, Final

from tunestream.rows.errors import Place, RowError
from tunestream.rows.values import decoder, fault_of, not_utf8

__all__ = ["array_items"]

_CHUNK: Final = 1 << 16
_WHITE: Final = " \t\n\r"
_AT_THE_END: Final = 12  # characters: a literal, an escape or a mark that the end of what is read may cut


def array_items(file: IO[bytes], source: str, *, keep_numbers: bool = False) -> Iterator[tuple[Place, Any]]:
    """Yield the items of the array, numbered.

    The document is an array, or an object of which exactly one key holds an array.

    Args:
        file: the open document.
        source: its name.
        keep_numbers: whether NaN and infinity stay what they are; otherwise they are missing, None.

    Raises:
        RowError: when it is neither, or no JSON.
    """
    text = _Text(file, source, decoder(keep_numbers=keep_numbers))
    opening = text.peek()
    if opening == "[":
        yield from _items(text)
    elif opening == "{":
        yield from _items_of_object(text)
    elif opening:
        raise text.fault("is neither an array of objects nor an object with one; is the type jsonl meant?")
    if text.peek():
        raise text.fault("goes on behind the end of the array; is the type jsonl meant?")


def _items(text: _Text) -> Iterator[tuple[Place, Any]]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    for number in count(1):
        yield Place(text.source, number, "row"), text.value()
        if text.take(",]") == "]":
            return


def _items_of_object(text: _Text) -> Iterator[tuple[Place, Any]]:
    """Yield the items of the only array in the object's values."""
    text.take("{")
    found, more = "", text.peek() != "}"
    while more:
        name = text.key()
        if text.peek() != "[":
            text.value()
        elif found:
            raise text.fault(f"holds two arrays, {found!r} and {name!r}; keep the rows of one in the file")
        else:
            found = name
            yield from _items(text)
        more = text.take(",}") == ","
    if not found:
        raise text.fault("is one object without an array of rows; is the type jsonl meant?")


class _Text:
    """A window on a document, moved forward value by value."""

    def __init__(self, file: IO[bytes], source: str, values: json.JSONDecoder) -> None:
        self._file, self.source, self._values = file, source, values
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    @property
    def place(self) -> Place:
        """The line of what comes next."""
        return Place(self.source, self._line + self._text.count("\n", 0, self._at))

    def fault(self, reason: str) -> RowError:
        """Return an error about what comes next."""
        return RowError(self.place, reason)

    def peek(self) -> str:
        """Pass over white space and return the next character, none at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _WHITE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Take one of the characters that may come next.

        Raises:
            RowError: when another one comes, or none.
        """
        found = self.peek()
        if not found or found not in expected:
            wanted = " or ".join(expected)
            raise self.fault(f"is not JSON: {found or 'the end'} stands where {wanted} should")
        self._at += 1
        return found

    def key(self) -> str:
        """Take the name of a value, and the colon behind it."""
        if self.peek() != '"':
            raise self.fault("is not JSON: a name in double quotes should stand here")
        name = self.value()
        self.take(":")
        return str(name)

    def value(self) -> Any:
        """Take a whole value; of the document only its text is held in memory."""
        self.peek()
        while True:
            try:
                value, end = self._values.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self._more():
                    continue
                raise self.fault(f"is not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise fault_of(error, self.place) from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._at = end
            return value

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _AT_THE_END

    def _more(self) -> bool:
        """Read as much as is held again, so that a long value is not parsed often; False at the end."""
        if self._ended:
            return False
        self._line += self._text.count("\n", 0, self._at)
        rest = self._text[self._at :]
        read = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not read
        self._text, self._at = rest, 0
        try:
            self._text += self._decoder.decode(read, final=self._ended)
        except UnicodeDecodeError as error:
            raise not_utf8(error, Place(self.source, self._line + rest.count("\n"))) from error
        return True
