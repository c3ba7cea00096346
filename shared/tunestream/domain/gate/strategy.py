"""One epoch of a run's curriculum, by the strategy that its configuration names."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from random import Random
from typing import Final

from tunestream.config.run.curriculum import CurriculumLearningConfig, CurriculumSection
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
    """A strategy broke its contract; the message names it and says how."""


def initial_state(config: CurriculumSection) -> State:
    """Return the state before the first epoch."""
    return initial_percentile_state(config) if isinstance(config, CurriculumLearningConfig) else {}


def strategy_of(config: CurriculumSection) -> CurriculumStrategy:
    """Return the strategy of a configuration.

    Raises:
        NotInstalled: when it is not installed here, or is none.
    """
    if isinstance(config, CurriculumLearningConfig):
        return PERCENTILE
    strategy = load_strategy(config.type)
    if not callable(getattr(strategy, "select", None)):
        raise NotInstalled(f"_type {config.type!r} names something without a method select")
    return strategy  # type: ignore[return-value]


def subsampling(run_id: str, config_digest: str, epoch: int, seed: int) -> Random:
    """Return the source of an epoch's subsampling; the same for the same arguments."""
    return Random(stable_id("subsample", run_id, config_digest, str(epoch), str(seed)))  # noqa: S311


def run_epoch(epoch: Epoch, state: State, config: CurriculumSection) -> Selection:
    """Select the groups of one epoch; all of them when the curriculum is not enabled.

    Raises:
        NotInstalled: when the strategy is not installed here.
        StrategyFailed: when it selects what is not there, or its state is too large or no JSON.
    """
    count = len(epoch.rewards)
    if not config.enabled:
        return Selection(list(range(count)), state)
    selection = strategy_of(config).select(epoch, state, config)
    chosen = selection.groups
    if len(set(chosen)) < len(chosen) or not all(0 <= at < count for at in chosen):
        raise StrategyFailed(f"strategy {config.type!r} selected {list(chosen)} of {count} groups")
    encode_state(selection.state, config.type)
    dropped = Counter(selection.dropped)
    if rest := count - len(chosen) - dropped.total():
        dropped["strategy"] += rest
    return Selection(list(chosen), selection.state, dict(dropped), selection.within)


def encode_state(state: State, kind: str) -> bytes:
    """Return a strategy's state as canonical JSON.

    Raises:
        StrategyFailed: when it is too large, or no JSON.
    """
    try:
        text = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StrategyFailed(f"strategy {kind!r} returned a state that is no JSON: {error}") from error
    if len(text) > MAX_STATE_BYTES:
        raise StrategyFailed(
            f"strategy {kind!r} returned a state of {len(text):,} bytes; at most {MAX_STATE_BYTES:,} are kept"
        )
    return text.encode()


def state_digest(state: State, kind: str) -> str:
    """Return the sha256 of a strategy's state, as :func:`encode_state` writes it."""
    return sha256(encode_state(state, kind)).hexdigest()
