"""Where a version came from, and which versions a turn went into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from tunestream.events.dataset import DatasetRow, ResponseRow
from tunestream.events.models import ModelVersion

__all__ = ["FedTurn", "ancestry", "descendants", "turns_of"]

_UNNAMED: Final = ""


@dataclass(slots=True)
class FedTurn:
    """A turn (or an episode group's example) in a dataset.

    Attributes:
        example_id: of the events.
        turn_id: of the events; empty for episodes.
        group_ids: under which its rows came.
        rows: how many of the dataset are its.
        policy_versions: that gave its responses.
        events: places in ``ttc.events`` as partition/offset, where they are still known.
    """

    example_id: str
    turn_id: str
    group_ids: list[str] = field(default_factory=list)
    rows: int = 0
    policy_versions: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def ancestry(version: str | None, versions: Mapping[str, ModelVersion]) -> Iterator[str]:
    """Yield a version and those that it was trained from, back to the base model."""
    while version is not None:
        yield version
        known = versions.get(version)
        version = known.parent if known else None


def descendants(names: AbstractSet[str], versions: Mapping[str, ModelVersion]) -> list[str]:
    """Return the versions that were trained from one of these, directly or not, without these."""
    return [name for name in versions if name not in names and not names.isdisjoint(ancestry(name, versions))]


def turns_of(rows: Iterable[DatasetRow | None]) -> dict[tuple[str, str], FedTurn]:
    """Return the turns of a dataset by (example, turn); rows of prompt and response have none."""
    turns: dict[tuple[str, str], FedTurn] = {}
    for row in rows:
        if row is None or isinstance(row, ResponseRow):
            continue
        name = (row.example_id, getattr(row, "turn_id", _UNNAMED))
        turn = turns.setdefault(name, FedTurn(*name))
        turn.rows += 1
        _add(turn.group_ids, row.group_id)
        _add(turn.policy_versions, row.policy_version)
    return turns


def _add(names: list[str], name: str | None) -> None:
    if name is not None and name not in names:
        names.append(name)
