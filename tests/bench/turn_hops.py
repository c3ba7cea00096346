"""Whole turns as records: one service process with a backlog, against a bare copy of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy, fill
from tests.bench.race import Pace, copy_pace, service_pace
from tests.bench.results import Bar, Figure, at_least, at_most
from tests.bench.workload import Record, turn_events, turn_steps

__all__ = ["collector_turns", "pair_builder_turns", "turn_sizes"]

_RESPONSE: Final = 330  # characters
_PROMPT: Final = 500
_SIZES: Final = (2, 4, 16, 256)
_PROMPTS: Final = (100, 1_000, 10_000, 100_000)
# A backlog of one shape is at most so large, bytes of prompts and responses.
_BACKLOG: Final = 64 << 20
_FEWEST_TURNS: Final = 400


@dataclass(frozen=True)
class _Shape:
    """Turns of so many candidates; lengths in characters."""

    size: int
    prompt: int

    def turns(self, candidates: int) -> int:
        """Return how many turns make about so many candidates, and no more bytes than a backlog has."""
        most = _BACKLOG // (self.prompt + self.size * _RESPONSE)
        return max(_FEWEST_TURNS, min(candidates // self.size, most))


@dataclass(frozen=True)
class _Stage:
    service: str
    source: str
    records: Callable[[Deployment, _Shape, int], Iterable[Record]]


_COLLECTOR: Final = _Stage(
    "ttc_collector",
    "ttc.events",
    lambda _, shape, turns: turn_events(turns, shape.size, shape.prompt, _RESPONSE),
)
_PAIR_BUILDER: Final = _Stage(
    "pair_builder",
    "ttc.candidates",
    lambda where, shape, turns: turn_steps(turns, where.config.digest, shape.size, shape.prompt, _RESPONSE),
)


async def collector_turns(context: Context) -> list[Figure]:
    """``ttc.events`` → ``ttc.candidates``, turns of four candidates."""
    return await _against_the_copy(context, "collector-turns", _COLLECTOR)


async def pair_builder_turns(context: Context) -> list[Figure]:
    """``ttc.candidates`` → ``trajectories``, turns of four candidates, all six pairs."""
    return await _against_the_copy(context, "pair-builder-turns", _PAIR_BUILDER)


async def turn_sizes(context: Context) -> list[Figure]:
    """Both services over turns of other sizes, and over longer prompts; one round each."""
    shapes = [_Shape(size, 1_000) for size in _SIZES] + [_Shape(4, length) for length in _PROMPTS]
    figures: list[Figure] = []
    for stage in (_COLLECTOR, _PAIR_BUILDER):
        for shape in dict.fromkeys(shapes):
            where, turns = await _filled(context, stage, shape)
            pace = (await service_pace(where, stage.service, turns, context.profiles)).of_candidates(
                shape.size
            )
            name = f"{stage.service}, {shape.size} candidates a turn, prompt of {shape.prompt:,} characters"
            figures += _figures("turn-sizes", name, [pace], None, None)
    return figures


async def _against_the_copy(context: Context, benchmark: str, stage: _Stage) -> list[Figure]:
    shape = _Shape(4, _PROMPT)
    rounds: dict[str, list[Pace]] = {"service": [], "copy": []}
    for number in range(context.rounds):
        where, turns = await _filled(context, stage, shape)
        contenders = {
            "service": lambda w=where, t=turns: service_pace(w, stage.service, t, context.profiles),
            "copy": lambda w=where, t=turns: copy_pace(w, stage.source, t),
        }
        for name in context.alternating(list(contenders), number):
            rounds[name].append((await contenders[name]()).of_candidates(shape.size))
    ratios = tuple(a.rate / b.rate for a, b in zip(rounds["service"], rounds["copy"], strict=True))
    return [
        Figure(benchmark, "rate to the bare copy's of the same bytes", ratios, "x"),
        *_figures(benchmark, "service", rounds["service"], at_least(70_000), at_most(10)),
        *_figures(benchmark, "copy", rounds["copy"], None, None),
    ]


async def _filled(context: Context, stage: _Stage, shape: _Shape) -> tuple[Deployment, int]:
    turns = shape.turns(context.sized(400_000, 40_000))
    where = await deploy(context.servers, context.folder)
    await fill(where.kafka, stage.source, stage.records(where, shape, turns))
    return where, turns


def _figures(benchmark: str, name: str, paces: list[Pace], rate: Bar | None, cpu: Bar | None) -> list[Figure]:
    return [
        Figure(benchmark, f"{name}: rate", tuple(p.rate for p in paces), "candidates/s", rate),
        Figure(benchmark, f"{name}: CPU", tuple(p.cpu for p in paces), "s per million", cpu),
        Figure(benchmark, f"{name}: memory", tuple(p.rss / 1e6 for p in paces), "MB"),
    ]
