"""The pair core alone: JSON lines in, lines of pairs out, in this process.

The baselines make objects of what they read, and write nothing; ours write the lines of ``tunestream pairs``.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from time import process_time

from tests.bench.context import Context
from tests.bench.reference_shaped import collect_trajectories
from tests.bench.results import Figure, at_least, at_most
from tests.bench.workload import START_MS
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.domain.turns.offline import Summary
from tunestream.domain.turns.pair_rows import Preference, pair_line
from tunestream.domain.turns.recorded_pairs import pairs_as_reference, pairs_as_stream

__all__ = ["large_turn", "pair_core"]

STEP_NAME = "dpo_candidate_move"
_REFERENCE = (
    "against a reference-shaped baseline; the reference itself: 7.2 k/s with, 24.9 k/s without collector"
)
# Without the collector, as `tunestream pairs` runs them.
_SAME_WORK = "ours, as the reference"
_MAKERS = {_SAME_WORK: pairs_as_reference, "ours, as the stream": pairs_as_stream}


async def pair_core(context: Context) -> list[Figure]:
    """10,000 turns of four candidates (about 1.06 kB a line), exhaustive pairs."""
    turns = context.sized(10_000, 2_000)
    lines = list(_recording(turns, 4))
    config = DPOTrajectoryBuilderConfig()
    baseline = partial(collect_trajectories, lines, STEP_NAME)
    makers: dict[str, tuple[Callable[[], object], bool]] = {
        "baseline, collector on": (baseline, True),
        "baseline, collector off": (baseline, False),
        **{name: (partial(_ours, maker, lines, config), False) for name, maker in _MAKERS.items()},
    }
    rates = _alternate(context, makers, len(lines))
    figures = [
        Figure(
            "pair-core", f"ours to the {name}", _ratios(rates[_SAME_WORK], rates[name]), "x", bar, _REFERENCE
        )
        for name, bar in (("baseline, collector on", at_least(15)), ("baseline, collector off", at_least(5)))
    ]
    return figures + [Figure("pair-core", name, tuple(each), "candidates/s") for name, each in rates.items()]


def _ratios(ours: list[float], theirs: list[float]) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


async def large_turn(context: Context) -> list[Figure]:
    """One turn of 3,000 candidates with a cap of 5 pairs."""
    lines = list(_recording(1, 3_000))
    config = DPOTrajectoryBuilderConfig(max_pairs_per_turn=5, max_candidates_per_turn=3_000)
    seconds: list[float] = []
    for _ in range(context.rounds):
        with _timed(seconds):
            _ours(pairs_as_stream, lines, config)
    tracemalloc.start()
    _ours(pairs_as_stream, lines, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [
        Figure(
            "large-turn", "JSON lines to pairs", tuple(each * 1000 for each in seconds), "ms", at_most(50)
        ),
        Figure("large-turn", "peak of traced memory", (peak / 1e6,), "MB"),
    ]


def _ours(
    maker: Callable[..., Iterator[Preference]], lines: list[bytes], config: DPOTrajectoryBuilderConfig
) -> list[object]:
    return list(map(pair_line, maker(lines, config, Summary(), lambda _line, refused: _fail(refused))))


def _fail(refused: Exception) -> None:
    raise refused


def _alternate(
    context: Context, makers: dict[str, tuple[Callable[[], object], bool]], count: int
) -> dict[str, list[float]]:
    """Return candidates per CPU second of each maker, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(context.rounds):
        for name in context.alternating(list(makers), number):
            seconds: list[float] = []
            make, collector = makers[name]
            with _collector(on=collector), _timed(seconds):
                kept = make()
            del kept
            rates[name].append(count / seconds[0])
    return rates


@contextmanager
def _collector(*, on: bool) -> Iterator[None]:
    gc.collect()
    if not on:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    began = process_time()
    yield
    seconds.append(process_time() - began)


def _recording(turns: int, candidates: int) -> Iterator[bytes]:
    """Give a NAT workflow's steps, ten turns an example."""
    rng = Random(0)
    for turn in range(turns):
        prompt = "".join(rng.choices("abcdefgh ", k=260))
        for index in range(candidates):
            yield json.dumps(
                {"example_id": f"example-{turn // 10}", "step": _step(rng, turn, index, prompt)}
            ).encode()


def _step(rng: Random, turn: int, index: int, prompt: str) -> dict[str, object]:
    data = {
        "input": [{"role": "system", "content": "You play."}, {"role": "user", "content": prompt}],
        "output": f"{index} " + "".join(rng.choices("abcdefgh ", k=150)),
        "turn_id": f"turn-{turn}",
        "candidate_index": index,
        "score": rng.random(),
    }
    payload = {
        "event_type": "TTC_END",
        "event_timestamp": START_MS / 1000 + turn * 0.002,
        "span_event_timestamp": START_MS / 1000,
        "framework": None,
        "name": STEP_NAME,
        "tags": None,
        "metadata": {"provided_metadata": {"board": "x.o.x...o", "move": index}, "tool_inputs": None},
        "data": data,
        "usage_info": None,
        "UUID": f"{turn:08x}-0000-4000-8000-{index:012x}",
    }
    ancestry = {"function_id": "f-1", "function_name": "play", "parent_id": "root", "parent_name": "root"}
    return {"parent_id": "root", "function_ancestry": ancestry, "payload": payload}
