"""The curriculum over recorded epochs: ``{"epoch": n, "group_rewards": [[…], …]}``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tunestream.config.run.curriculum import CurriculumSection
from tunestream.domain.gate.selection import Epoch
from tunestream.domain.gate.strategy import initial_state, run_epoch, subsampling
from tunestream.domain.turns.recorded_steps import RecordingError
from tunestream.events.base import FiniteFloat, Foreign

__all__ = ["run_epochs"]


class _Line(Foreign):
    epoch: Annotated[int, Field(ge=0)]
    group_rewards: list[list[FiniteFloat]]


def run_epochs(lines: Iterable[bytes], config: CurriculumSection, seed: int) -> Iterator[dict[str, Any]]:
    """Select the groups of each epoch, the state carried from line to line; blank lines are skipped.

    Raises:
        RecordingError: at the first line that is not an epoch.
        StrategyFailed: when the strategy breaks its contract.
    """
    state = initial_state(config)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        read = _read(number, line)
        epoch = Epoch(
            number=read.epoch,
            rewards=read.group_rewards,
            sizes=[len(rewards) for rewards in read.group_rewards],
            rng=subsampling("offline", "offline", read.epoch, seed),
        )
        selection = run_epoch(epoch, state, config)
        state = selection.state
        yield {"epoch": epoch.number, "selected_groups": selection.groups, "state": state}


def _read(number: int, line: bytes) -> _Line:
    try:
        return _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"field {place}: " if place else ""
        raise RecordingError(number, f"{where}{first['msg']}") from None
