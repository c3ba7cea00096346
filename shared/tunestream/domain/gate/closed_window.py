"""A window that was closed: what trains of it, and what became of each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunestream.config.run.run import RunConfig
from tunestream.domain.gate.curriculum import EpochResult
from tunestream.domain.gate.dataset_rows import Line, lines_of
from tunestream.domain.gate.window import Held
from tunestream.events.training import CurriculumState, Objective
from tunestream.events.windows import CurriculumWindow

__all__ = ["ClosedWindow", "closed_window"]

# Bytes of ids in a record, which takes 4 MiB with all that is in it.
_MOST_ID_BYTES: Final = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedWindow:
    """A window after its epoch of the curriculum.

    Attributes:
        run_id: of the run.
        config_digest: of the configuration under which its groups were made.
        objective: what the job optimises.
        epoch: number of the window within (run, config_digest), from 0.
        time: stream time of the decision, ms.
        selected: groups, in the order of training; may be empty.
        within: of the only selected group: positions of the trajectories that were drawn; None for all.
        fraction: of the run's prompts that are held out.
        dropped: how many groups were left out, by reason.
        left_out: their ids, by reason.
        unscored: candidates of its turns that got no score.
        skipped: pairs that its turns did not make, by reason.
        curriculum: after this epoch.
        state_digest: of the state of a curriculum strategy whose state the batch does not carry.
    """

    run_id: str
    config_digest: str
    objective: Objective
    epoch: int
    time: int
    selected: Sequence[Held]
    within: Sequence[int] | None
    fraction: float
    dropped: dict[str, int]
    left_out: Mapping[str, Sequence[str]]
    unscored: int
    skipped: Mapping[str, int]
    curriculum: CurriculumState
    state_digest: str | None

    def lines(self, bodies: Mapping[str, bytes], groups: Sequence[Held]) -> Iterator[Line]:
        """Make the dataset's lines of some of the selected groups, in order.

        Args:
            bodies: of groups that a reference stands for, by group id.
            groups: of those that are selected.
        """
        for held in groups:
            value = bodies.get(held.group.group_id, held.value)
            yield from lines_of(value, self.fraction, self.within)

    def record(self, batch_id: str | None, reason: str | None) -> CurriculumWindow:
        """Return what is published of the window.

        Args:
            batch_id: of the batch that it made.
            reason: why it made none.
        """
        room = _Room(_MOST_ID_BYTES)
        selected = room.take("selected", [held.group.group_id for held in self.selected])
        left_out = {name: room.take(name, ids) for name, ids in sorted(self.left_out.items())}
        return CurriculumWindow(
            run_id=self.run_id,
            config_digest=self.config_digest,
            epoch=self.epoch,
            batch_id=batch_id,
            reason=reason,
            selected=selected,
            left_out=left_out,
            unnamed=room.unnamed or None,
            unscored=self.unscored,
            skipped=dict(sorted(self.skipped.items())),
        )


class _Room:
    """Counts ids that a record has no room for."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.unnamed: dict[str, int] = {}

    def take(self, name: str, ids: Sequence[str]) -> list[str]:
        """Return the ids that fit, the first ones."""
        for at, one in enumerate(ids):
            self._left -= len(one.encode()) + 3
            if self._left < 0:
                self.unnamed[name] = len(ids) - at
                return list(ids[:at])
        return list(ids)


def closed_window(
    config: RunConfig, config_digest: str, epoch: EpochResult, groups: Sequence[Held], now: int
) -> ClosedWindow:
    """Put together what a window's epoch gave, decided at stream time ``now``, ms."""
    selection = epoch.selection
    skipped: Counter[str] = Counter()
    for held in groups:
        skipped.update(held.group.skipped)
    return ClosedWindow(
        run_id=config.run_id,
        config_digest=config_digest,
        objective=config.objective,
        epoch=epoch.number,
        time=now,
        selected=[groups[at] for at in selection.groups],
        within=selection.within,
        fraction=config.batching.validation_fraction,
        dropped=dict(selection.dropped),
        left_out={
            reason: [groups[at].group.group_id for at in positions]
            for reason, positions in selection.left_out.items()
        },
        unscored=sum(held.group.unscored for held in groups),
        skipped=skipped,
        curriculum=epoch.curriculum,
        state_digest=epoch.state_digest,
    )
