"""The curriculum gate's core: groups of trajectories collect into windows, each one an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.gate.curriculum import Curricula, EpochResult
from tunestream.domain.gate.dataset_rows import Row, SplitRows, check_group, split_rows
from tunestream.domain.gate.selection import Selection
from tunestream.domain.gate.strategy import strategy_of
from tunestream.domain.gate.window import Window
from tunestream.domain.models.live import LiveCollector
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.training import CurriculumState, Objective
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import Tick

__all__ = ["CurriculumGate", "SelectedWindow", "configuration_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedWindow:
    """A window whose selection trains.

    Attributes:
        run_id: of the run.
        config_digest: of the configuration under which its groups were made.
        objective: what the job optimises.
        epoch: number of the window within (run, config_digest), from 0.
        time: stream time of the decision, ms.
        train: rows to train on, never empty.
        validation: rows of held-out prompts, may be empty.
        groups: how many groups were selected.
        dropped: how many groups were left out, by reason.
        curriculum: after this epoch.
        policy_versions: that gave the rows, sorted.
        unversioned_rows: rows of which no version is known.
        state_digest: of the state of a curriculum strategy whose state the batch does not carry.
    """

    run_id: str
    config_digest: str
    objective: Objective
    epoch: int
    time: int
    train: list[Row]
    validation: list[Row]
    groups: int
    dropped: dict[str, int]
    curriculum: CurriculumState
    policy_versions: list[str]
    unversioned_rows: int
    state_digest: str | None


class CurriculumGate:
    """Collects the groups of the runs on one partition.

    State keys: ``group/run/digest/arrival number/stream time`` holds a group's body as it came;
    ``epoch/run/digest`` and ``strategy/run/digest`` are those of :class:`Curricula`; ``run/run`` holds the
    run's stream time; ``live/run`` what its turns scored and was not sent yet.

    Args:
        config: (run id, config digest) → the run's configuration; raises KeyError when unknown.
    """

    def __init__(self, config: Callable[[str, str], RunConfig]) -> None:
        self._config = config
        self._times: dict[str, int] = {}
        self._windows: dict[str, dict[str, Window]] = {}
        self._curricula = Curricula()
        self._live = LiveCollector()

    @property
    def open_groups(self) -> int:
        """How many groups wait in windows."""
        return sum(len(window.keys) for windows in self._windows.values() for window in windows.values())

    def curriculum(self, run_id: str, config_digest: str) -> CurriculumState:
        """Return where the curriculum stands.

        Raises:
            KeyError: when the configuration is unknown.
        """
        config = self._config(run_id, config_digest).curriculum_learning
        return self._curricula.standing(run_id, config_digest, config)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; the order does not matter.

        Raises:
            KeyError: when the configuration of an open window is unknown.
        """
        kind, run_id, *rest = decode_key(key)
        if kind == "run":
            self._times[run_id] = int(value)
        elif kind == "live":
            self._live.restore(run_id, value)
        elif kind == "epoch":
            self._curricula.restore_epoch(run_id, rest[0], value)
        elif kind == "strategy":
            self._curricula.restore_strategy(run_id, rest[0], value)
        else:
            config_digest, _, accepted = rest
            group = TrajectoryGroup.model_validate_json(value)
            self._window(run_id, config_digest, int(accepted)).restore(key, group)

    def handle(
        self, event: TrajectoryGroup | Tick, *, time: int, raw: bytes, effects: Effects
    ) -> list[SelectedWindow]:
        """Advance the run's stream time, close the windows that are due, and take the group.

        Args:
            event: the record's body.
            time: the record's time, ms.
            raw: the group's body as bytes, kept while its window is open.
            effects: receives the state's changes, the counts, and the live scores that are due.

        Returns:
            The closed windows that train, in order.

        Raises:
            Refused: when a trajectory of the group makes no row, or the run's curriculum strategy is not
                installed here; then nothing has changed.
            KeyError: when the group's configuration is unknown; then nothing has changed.
            StrategyFailed: when a strategy breaks its contract.
        """
        if isinstance(event, TrajectoryGroup):
            check_group(event)
            _check_strategy(self._config(event.run_id, event.config_digest))
        selected = self._advance(event.run_id, time, effects)
        if isinstance(event, TrajectoryGroup):
            config, now = self._config(event.run_id, event.config_digest), self._times[event.run_id]
            self._live.take(event, config.evaluation.live, now, effects)
            selected += self._take(event, raw, effects)
        return selected

    def _advance(self, run_id: str, time: int, effects: Effects) -> list[SelectedWindow]:
        now = self._times.get(run_id)
        if now is not None and time <= now:
            return []
        self._live.advance(run_id, time, effects)
        windows = self._windows.get(run_id, {})
        due = sorted((window.deadline, config_digest) for config_digest, window in windows.items())
        selected: list[SelectedWindow] = []
        for deadline, config_digest in due:
            if deadline <= time:
                selected += self._close(run_id, config_digest, deadline, effects)
        self._times[run_id] = time
        effects.put(encode_key("run", run_id), b"%d" % time)
        return selected

    def _take(self, group: TrajectoryGroup, raw: bytes, effects: Effects) -> list[SelectedWindow]:
        if not group.trajectories:
            effects.counts["dropped_no_trajectories"] += 1
            return []
        run_id, config_digest = group.run_id, group.config_digest
        now = self._times[run_id]
        window = self._window(run_id, config_digest, now)
        effects.put(window.accept(group, now), raw)
        if window.full or window.deadline <= now:
            return self._close(run_id, config_digest, now, effects)
        return []

    def _window(self, run_id: str, config_digest: str, now: int) -> Window:
        windows = self._windows.setdefault(run_id, {})
        if config_digest not in windows:
            config = self._config(run_id, config_digest)
            windows[config_digest] = Window(encode_key("group", run_id, config_digest), config.batching, now)
        return windows[config_digest]

    def _close(self, run_id: str, config_digest: str, now: int, effects: Effects) -> list[SelectedWindow]:
        """Run one epoch of the curriculum over a window."""
        window = self._windows[run_id].pop(config_digest)
        config, groups = self._config(run_id, config_digest), list(window)
        epoch = self._curricula.run(config, config_digest, groups, effects)
        effects.changes.update(dict.fromkeys(window.keys))
        for reason, count in epoch.selection.dropped.items():
            effects.counts[f"dropped_{reason}"] += count
        rows = split_rows(_chosen(groups, epoch.selection), config.batching.validation_fraction)
        if not rows.train:
            effects.counts["all_held_out" if rows.validation else "empty_selection"] += 1
            return []
        return [_selected(config, config_digest, epoch, rows, now)]


def configuration_of(key: bytes) -> tuple[str, str] | None:
    """Return run and digest of the configuration that a state record needs, None when it needs none."""
    kind, *rest = decode_key(key)
    return (rest[0], rest[1]) if kind == "group" else None


def _check_strategy(config: RunConfig) -> None:
    try:
        strategy_of(config.curriculum_learning)
    except NotInstalled as error:
        raise Refused(
            "unknown_strategy",
            f"run {config.run_id!r}: curriculum_learning: {error}; install it where the gate runs",
        ) from error


def _chosen(groups: list[TrajectoryGroup], selection: Selection) -> Iterable[TrajectoryGroup]:
    chosen = [groups[at] for at in selection.groups]
    if selection.within is None:
        return chosen
    drawn = [chosen[0].trajectories[at] for at in selection.within]
    return [chosen[0].model_copy(update={"trajectories": drawn})]


def _selected(
    config: RunConfig, config_digest: str, epoch: EpochResult, rows: SplitRows, now: int
) -> SelectedWindow:
    return SelectedWindow(
        run_id=config.run_id,
        config_digest=config_digest,
        objective=config.objective,
        epoch=epoch.number,
        time=now,
        train=rows.train,
        validation=rows.validation,
        groups=len(epoch.selection.groups),
        dropped=dict(epoch.selection.dropped),
        curriculum=epoch.curriculum,
        policy_versions=rows.policy_versions,
        unversioned_rows=rows.unversioned,
        state_digest=epoch.state_digest,
    )
