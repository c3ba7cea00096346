"""What was measured, against which bar, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

__all__ = ["Bar", "Figure", "Report", "at_least", "at_most"]


@dataclass(frozen=True)
class Bar:
    """What a figure should reach: ``at least`` or ``at most`` a value."""

    kind: str
    value: float

    def reached_by(self, value: float) -> bool:
        return value >= self.value if self.kind == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'at least' else '≤'} {self.value:g}"


def at_least(value: float) -> Bar:
    return Bar("at least", value)


def at_most(value: float) -> Bar:
    return Bar("at most", value)


@dataclass(frozen=True)
class Figure:
    """One measured number: the median of its rounds.

    Attributes:
        benchmark: which one measured it.
        name: what it is.
        rounds: the value of each round, in order; a ratio is formed within a round.
        unit: of the values.
        bar: what it should reach, None for a figure that only explains others.
        note: what it is not.
    """

    benchmark: str
    name: str
    rounds: tuple[float, ...]
    unit: str
    bar: Bar | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return median(self.rounds)

    @property
    def reached(self) -> bool | None:
        return None if self.bar is None else self.bar.reached_by(self.value)

    @property
    def text(self) -> str:
        """The value for people, three significant digits."""
        value = self.value
        digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{digits} {self.unit}".strip()

    @property
    def spread(self) -> str:
        """The least and the largest round."""
        return f"{min(self.rounds):.4g} … {max(self.rounds):.4g}" if len(self.rounds) > 1 else ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        bar = Bar(**values["bar"]) if values["bar"] else None
        return cls(**{**values, "rounds": tuple(values["rounds"]), "bar": bar})


@dataclass
class Report:
    """All figures of one run of the benchmarks, and on what they were measured."""

    quick: bool
    machine: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, figures: Sequence[Figure], tell: Callable[[Figure], None]) -> None:
        for figure in figures:
            self.figures.append(figure)
            tell(figure)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        values = json.loads(path.read_text("utf-8"))
        return cls(**{**values, "figures": [Figure.from_json(each) for each in values["figures"]]})


def this_machine() -> dict[str, Any]:
    """Describe the machine; nothing that names it."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "load_average_before": [round(each, 1) for each in os.getloadavg()],
    }
