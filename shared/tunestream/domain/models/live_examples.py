"""Turns by example: the turns of one are alike, and a comparison that takes them for independent errs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tunestream.domain.effects import Effects
from tunestream.events.base import Wire
from tunestream.events.keys import encode_key
from tunestream.events.live import ExampleSums

__all__ = ["ExampleTurns", "add_sums"]

_MOST: Final = 10_000  # examples of a run whose turns are counted apart; some 3 MB


class _Example(Wire):
    """State record: the turns of an example since its run's last summary was published."""

    number: int
    versions: dict[str, tuple[int, float]]  # turns, and the sum of their mean scores


class ExampleTurns:
    """The turns of a run's examples by the versions that answered.

    State keys: ``live/run/example``.
    """

    def __init__(self, run_id: str, most: int = _MOST) -> None:
        self._run_id = run_id
        self._most = most
        self._examples: dict[str, _Example] = {}
        self._next = 0
        self._in_order = True

    def restore(self, example_id: str, value: bytes) -> None:
        """Take back a record of the state; the order does not matter."""
        self._examples[example_id] = found = _Example.of_service(value)
        self._next = max(self._next, found.number + 1)
        self._in_order = False

    def add(self, example_id: str, means: Mapping[str, float], effects: Effects) -> dict[str, ExampleSums]:
        """Add a turn by the mean scores of its versions.

        Returns:
            The sums of the example that was let go for it, by version; mostly none.
        """
        known = self._examples.get(example_id)
        let_go: dict[str, ExampleSums] = {}
        if known is None:
            known = _Example(number=self._next, versions={})
            self._next += 1
            let_go = self._make_room(effects)
        versions = dict(known.versions)
        for version, mean in means.items():
            turns, scores = versions.get(version, (0, 0.0))
            versions[version] = (turns + 1, scores + mean)
        self._examples[example_id] = after = _Example(number=known.number, versions=versions)
        effects.put(self._key(example_id), after.to_json())
        return let_go

    def _make_room(self, effects: Effects) -> dict[str, ExampleSums]:
        """Let the example go whose first turn is the oldest."""
        if len(self._examples) < self._most:
            return {}
        if not self._in_order:
            self._examples = dict(sorted(self._examples.items(), key=lambda item: item[1].number))
            self._in_order = True
        oldest = next(iter(self._examples))
        effects.delete(self._key(oldest))
        return dict(_sums(self._examples.pop(oldest)))

    def sums(self) -> Iterator[tuple[str, ExampleSums]]:
        """Give the sums of each example, by version."""
        for example in self._examples.values():
            yield from _sums(example)

    def clear(self, effects: Effects) -> None:
        """Drop everything from the state."""
        for example_id in self._examples:
            effects.delete(self._key(example_id))

    def _key(self, example_id: str) -> bytes:
        return encode_key("live", self._run_id, example_id)


def _sums(example: _Example) -> Iterator[tuple[str, ExampleSums]]:
    for version, (turns, scores) in example.versions.items():
        sums = {"turns_squared": turns**2, "scores_squared": scores**2, "products": turns * scores}
        yield version, ExampleSums(examples=1, **sums)


def add_sums(first: ExampleSums, second: ExampleSums) -> ExampleSums:
    """Return the sums over the examples of both; one that is in both counts as two."""
    return ExampleSums(
        examples=first.examples + second.examples,
        turns_squared=first.turns_squared + second.turns_squared,
        scores_squared=first.scores_squared + second.scores_squared,
        products=first.products + second.products,
    )
