"""One epoch of a run's curriculum, by the strategy that its configuration names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from operator import index
from random import Random
from typing import Final

from tunestream.config.run.curriculum import (
    CurriculumLearningConfig,
    CurriculumSection,
    strategy_section,
)
from tunestream.config.run.plugins import NotInstalled, load_strategy
from tunestream.domain.gate.percentile import PERCENTILE, initial_percentile_state
from tunestream.domain.gate.selection import CurriculumStrategy, Epoch, Selection, State
from tunestream.events.ids import stable_id

__all__ = [
    "MAX_STATE_BYTES",
    "StrategyFailed",
    "encode_state",
    "initial_state",
    "run_epoch",
    "state_digest",
    "strategy_of",
    "subsampling",
]

MAX_STATE_BYTES: Final = 64 * 1024
"""How large a strategy's state may be as JSON."""


class StrategyFailed(Exception):
    """A strategy broke its contract; the message names the strategy and the fault."""


def initial_state(config: CurriculumSection) -> State:
    """Return the state before the first epoch."""
    return initial_percentile_state(config) if isinstance(config, CurriculumLearningConfig) else {}


def strategy_of(config: CurriculumSection) -> CurriculumStrategy:
    """Return the strategy of a configuration.

    Raises:
        NotInstalled: when it is not installed here, is none, or is of a version that cannot read its section.
    """
    if isinstance(config, CurriculumLearningConfig):
        return PERCENTILE
    strategy = load_strategy(config.type)
    if not callable(getattr(strategy, "select", None)):
        raise NotInstalled(f"_type {config.type!r} names something without a method select")
    if not isinstance(config, strategy_section(config.type)):
        raise NotInstalled(f"_type {config.type!r} is installed in a version that cannot read its section")
    return strategy  # type: ignore[return-value]


def subsampling(run_id: str, config_digest: str, epoch: int, seed: int) -> Random:
    """Return the source of an epoch's subsampling; the same for the same arguments."""
    return Random(stable_id("subsample", run_id, config_digest, str(epoch), str(seed)))  # noqa: S311


def run_epoch(epoch: Epoch, state: State, config: CurriculumSection) -> Selection:
    """Select the groups of one epoch; all of them when the curriculum is not enabled.

    Raises:
        NotInstalled: when the strategy is not installed here.
        StrategyFailed: when it selects or counts what is not there, or its state is too large or no JSON.
    """
    count = len(epoch.rewards)
    if not config.enabled:
        return Selection(list(range(count)), state)
    selection = strategy_of(config).select(epoch, state, config)
    chosen = _positions(selection.groups, count, f"{count} groups", config.type)
    named = {reason: list(positions) for reason, positions in selection.left_out.items()}
    _positions([*chosen, *chain.from_iterable(named.values())], count, f"{count} groups", config.type)
    counts = dict(selection.dropped)
    for reason, positions in named.items():
        counts[reason] = max(counts.get(reason, 0), len(positions))
    dropped = _dropped(counts, count - len(chosen), config.type)
    return Selection(
        chosen,
        _remembered(selection.state, config),
        dropped,
        _within(selection.within, [epoch.sizes[at] for at in chosen], config.type),
        _all_left_out(named, dropped, set(range(count)).difference(chosen)),
    )


def _all_left_out(
    named: Mapping[str, Sequence[int]], dropped: Mapping[str, int], left_out: set[int]
) -> dict[str, list[int]]:
    """Return by reason which groups were left out.

    Those that the strategy does not name stand under the one reason that it counts, or under ``strategy``.
    """
    found = {reason: list(positions) for reason, positions in named.items()}
    rest = sorted(left_out.difference(*found.values()))
    open_ = [reason for reason, count in dropped.items() if count > len(found.get(reason, ()))]
    if rest:
        found.setdefault(open_[0] if len(open_) == 1 else "strategy", []).extend(rest)
    return {reason: positions for reason, positions in found.items() if positions}


def _remembered(state: State, config: CurriculumSection) -> State:
    """Return a state as it is after a restart: sorted, text for keys, lists for tuples."""
    encoded = encode_state(state, config.type)
    return state if isinstance(config, CurriculumLearningConfig) else json.loads(encoded)


def _positions(selected: Sequence[int], count: int, of: str, kind: str) -> list[int]:
    try:
        positions = [index(at) for at in selected]
    except TypeError:
        positions = [count]
    if len(set(positions)) < len(positions) or not all(0 <= at < count for at in positions):
        raise StrategyFailed(f"strategy {kind!r} selected {list(selected)} of {of}")
    return positions


def _dropped(counts: Mapping[str, int], left_out: int, kind: str) -> dict[str, int]:
    """Return how many groups were left out by reason, those without one as ``strategy``."""
    dropped = Counter(counts)
    rest = left_out - dropped.total()
    if rest < 0 or min(dropped.values(), default=0) < 0:
        raise StrategyFailed(f"strategy {kind!r} counts {dict(counts)} of {left_out} groups that it left out")
    if rest:
        dropped["strategy"] += rest
    return dict(dropped)


def _within(drawn: Sequence[int] | None, sizes: Sequence[int], kind: str) -> list[int] | None:
    """Return the trajectories that were drawn of the only selected group."""
    if drawn is None:
        return None
    if len(sizes) != 1:
        raise StrategyFailed(
            f"strategy {kind!r} drew trajectories of {len(sizes)} groups; it may of one alone"
        )
    return _positions(drawn, sizes[0], f"{sizes[0]} trajectories", kind)


def encode_state(state: State, kind: str) -> bytes:
    """Return a strategy's state as canonical JSON.

    Raises:
        StrategyFailed: when it is too large, or no JSON object.
    """
    if not isinstance(state, dict):
        raise StrategyFailed(
            f"strategy {kind!r} returned a {type(state).__name__} as its state; return a dict"
        )
    try:
        text = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StrategyFailed(f"strategy {kind!r} returned a state that is no JSON: {error}") from error
    if len(text) > MAX_STATE_BYTES:
        raise StrategyFailed(
            f"strategy {kind!r} returned a state of {len(text):,} bytes; at most {MAX_STATE_BYTES:,} are kept"
        )
    return text.encode()


def state_digest(state: State, kind: str) -> str:
    """Return the sha256 of a strategy's state, as :func:`encode_state` writes it."""
    return sha256(encode_state(state, kind)).hexdigest()
