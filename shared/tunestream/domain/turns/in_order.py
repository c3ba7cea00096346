"""Puts what turns give back into the order in which examples and their turns first appeared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

__all__ = ["InOrder"]

T = TypeVar("T")


class InOrder(Generic[T]):
    """Holds items by example and turn until every example before theirs has ended."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, list[T]]] = {}
        self._ended: set[str] = set()

    def note(self, example_id: str, turn_id: str) -> None:
        """Give a turn its place, unless it has one."""
        self._ended.discard(example_id)
        self._waiting.setdefault(example_id, {}).setdefault(turn_id, [])

    def add(self, example_id: str, turn_id: str, items: Iterable[T]) -> None:
        """Put a turn's items in its place."""
        self._waiting[example_id][turn_id] += items

    def end(self, example_id: str) -> Iterator[T]:
        """Note that nothing more comes of an example, and give what waits for nothing else now."""
        if example_id in self._waiting:
            self._ended.add(example_id)
        while self._waiting and (first := next(iter(self._waiting))) in self._ended:
            self._ended.discard(first)
            yield from chain.from_iterable(self._waiting.pop(first).values())

    def rest(self) -> Iterator[T]:
        """Give everything that is left."""
        for turns in self._waiting.values():
            yield from chain.from_iterable(turns.values())
        self._waiting.clear()
