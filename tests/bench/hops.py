"""One service process with a backlog, against a bare transactional copy of the same records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from tests.bench.context import Context
from tests.bench.deployment import Deployment, deploy, fill
from tests.bench.race import Pace, copy_pace, kafka_streams_pace, quix_pace, service_pace
from tests.bench.results import Bar, Figure, at_least, at_most
from tests.bench.workload import Record, candidate_events, candidate_steps, whole_blocks

__all__ = ["collector", "pair_builder"]

# Who may be named, and does the pair builder's work.
_OTHERS = {"quix": ("Quix Streams'", at_least(1.2)), "kafka-streams": ("Kafka Streams'", None)}


@dataclass(frozen=True)
class _Hop:
    service: str
    source: str
    records: Callable[[Deployment, int], Iterable[Record]]


_COLLECTOR = _Hop("ttc_collector", "ttc.events", lambda _, count: candidate_events(count))
_PAIR_BUILDER = _Hop(
    "pair_builder", "ttc.candidates", lambda where, count: candidate_steps(count, where.config.digest)
)


async def collector(context: Context) -> list[Figure]:
    """``ttc.events`` → ``ttc.candidates``, against the copy."""
    rounds = await _race(context, _COLLECTOR)
    return [
        _ratio("collector", rounds, "rate to the bare copy's", at_least(0.9), lambda p: p.rate),
        *_absolute("collector", rounds, cpu=at_most(20)),
    ]


async def pair_builder(context: Context) -> list[Figure]:
    """``ttc.candidates`` → ``trajectories`` with a durable changelog, against the copy and who is named."""
    rounds = await _race(context, _PAIR_BUILDER)
    figures = [_ratio("pair-builder", rounds, "rate to the bare copy's", at_least(1), lambda p: p.rate)]
    for to, (name, bar) in _OTHERS.items():
        if to in rounds[0]:
            figures.append(_ratio("pair-builder", rounds, f"rate to {name}", bar, lambda p: p.rate, to=to))
    return figures + _absolute("pair-builder", rounds, cpu=at_most(20))


async def _race(context: Context, hop: _Hop) -> list[dict[str, Pace]]:
    """Return each contender's pace, round by round; each round has topics of its own."""
    total = whole_blocks(context.sized(200_000, 40_000))
    rounds = []
    for number in range(context.rounds):
        where = await deploy(context.servers, context.folder)
        await fill(where.kafka, hop.source, hop.records(where, total))
        contenders = _contenders(context, hop, where, total)
        order = context.alternating(list(contenders), number)
        rounds.append({name: await contenders[name]() for name in order})
    return rounds


def _contenders(
    context: Context, hop: _Hop, where: Deployment, total: int
) -> Mapping[str, Callable[[], Awaitable[Pace]]]:
    contenders: dict[str, Callable[[], Awaitable[Pace]]] = {
        "service": lambda: service_pace(where, hop.service, total, context.profiles),
        "copy": lambda: copy_pace(where, hop.source, total),
    }
    if hop is not _PAIR_BUILDER:
        return contenders
    if (quix := context.quix) is not None:
        contenders["quix"] = lambda: quix_pace(where, quix, total)
    if (jars := context.kafka_streams) is not None:
        contenders["kafka-streams"] = lambda: kafka_streams_pace(where, jars, total)
    return contenders


def _ratio(
    benchmark: str,
    rounds: list[dict[str, Pace]],
    name: str,
    bar: Bar | None,
    of: Callable[[Pace], float],
    *,
    to: str = "copy",
) -> Figure:
    values = tuple(of(paces["service"]) / of(paces[to]) for paces in rounds)
    return Figure(benchmark, name, values, "x", bar)


def _absolute(benchmark: str, rounds: list[dict[str, Pace]], cpu: Bar | None = None) -> list[Figure]:
    figures = []
    for name in rounds[0]:
        paces = [each[name] for each in rounds]
        bar = cpu if name == "service" else None
        figures += [
            Figure(benchmark, f"{name}: rate", tuple(p.rate for p in paces), "records/s"),
            Figure(benchmark, f"{name}: CPU", tuple(p.cpu for p in paces), "s per million", bar),
            Figure(benchmark, f"{name}: memory", tuple(p.rss / 1e6 for p in paces), "MB"),
        ]
    return figures
