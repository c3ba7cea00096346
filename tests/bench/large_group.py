"""One large turn through the cores of two stages, in this process: 256 candidates of 3 kB, all pairs."""

from __future__ import annotations

import gc
from time import process_time
from typing import Final

from tests.bench.context import Context
from tests.bench.results import Figure, at_most
from tests.bench.workload import RUN, turn_steps
from tests.helpers.runs import run_config
from tunestream.domain.effects import Effects
from tunestream.domain.gate.bodies import arrival_of
from tunestream.domain.gate.core import CurriculumGate
from tunestream.domain.turns.core import PairBuilder
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.cloudevents import Envelope
from tunestream.events.groups import PreferenceGroup
from tunestream.events.views.candidates import TurnView
from tunestream.events.views.groups import PreferenceGroupView

__all__ = ["large_group"]

_CANDIDATES: Final = 256
_RESPONSE: Final = 3_000
_PROMPT: Final = 1_000
_GROUP: Final = "tunestream.trajectory_group.v2"
_ALL_PAIRS: Final = {"exhaustive_pairs": True, "max_pairs_per_turn": 40_000}


async def large_group(context: Context) -> list[Figure]:
    """From the bytes of the turn's record to the bytes of its group, and those into a window of the gate."""
    config = run_config(RUN, trajectory_builder=_ALL_PAIRS, batching={"window_pairs": 40_000})
    (record,) = turn_steps(1, config.digest, _CANDIDATES, _PROMPT, _RESPONSE)
    time = Envelope.from_headers(record.headers).time
    assert time is not None
    closing: list[float] = []
    gate: list[float] = []
    group, pairs = b"", 0
    for _ in range(max(5, context.rounds)):
        gc.collect()
        began = process_time()
        group = _closed(record.value, time, GroupRules.of(config.trajectory_builder, 40_000), config.digest)
        closing.append((process_time() - began) * 1000)
        began = process_time()
        view = PreferenceGroupView.read(group) or _by_the_model(group)
        CurriculumGate(lambda _run, _digest: config).handle(
            arrival_of(view), time=time, raw=group, effects=Effects()
        )
        gate.append((process_time() - began) * 1000)
        pairs = len(view.pairs)
    return [
        Figure(
            "large-group",
            "the turn's record to the group's",
            tuple(closing),
            "ms",
            at_most(100),
            f"{pairs:,} pairs",
        ),
        Figure("large-group", "size of the group", (len(group) / 1e6,), "MB", at_most(2)),
        Figure("large-group", "the gate takes the group", tuple(gate), "ms", at_most(50)),
    ]


def _closed(value: bytes, time: int, rules: GroupRules, digest: str) -> bytes:
    effects = Effects()
    builder = PairBuilder(lambda _run, _digest: rules)
    turn = TurnView.read(value)
    assert turn is not None
    builder.handle(turn, time=time, config_digest=digest, raw=value, effects=effects)
    builder.settle(effects)
    return next(output.encoded() for output in effects.outbound if output.type == _GROUP)


def _by_the_model(group: bytes) -> PreferenceGroupView:
    return PreferenceGroupView.of(PreferenceGroup.model_validate_json(group))
