"""The curriculum over recorded epochs: ``{"epoch": n, "group_rewards": [[…], …]}``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.domain.gate.curriculum import initial_state, select, subsampling
from tunestream.domain.turns.recorded_steps import RecordingError
from tunestream.events.base import FiniteFloat, Foreign

__all__ = ["run_epochs"]


class _Epoch(Foreign):
    epoch: Annotated[int, Field(ge=0)]
    group_rewards: list[list[FiniteFloat]]


def run_epochs(
    lines: Iterable[bytes], config: CurriculumLearningConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """Select the groups of each epoch, the state carried from line to line; blank lines are skipped.

    Raises:
        RecordingError: at the first line that is not an epoch.
    """
    state = initial_state(config)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        epoch = _read(number, line)
        selection = select(
            epoch.group_rewards,
            epoch=epoch.epoch,
            state=state,
            config=config,
            rng=subsampling("offline", "offline", epoch.epoch, seed),
        )
        state = selection.state
        yield {
            "epoch": epoch.epoch,
            "selected_groups": selection.groups,
            "state": state.model_dump(mode="json"),
        }


def _read(number: int, line: bytes) -> _Epoch:
    try:
        return _Epoch.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"field {place}: " if place else ""
        raise RecordingError(number, f"{where}{first['msg']}") from None
