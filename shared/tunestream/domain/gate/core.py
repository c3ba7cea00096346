"""The curriculum gate's core: groups of trajectories collect into windows, each one an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects
from tunestream.domain.gate.curriculum import Selection, initial_state, select, subsampling
from tunestream.domain.gate.dataset_rows import Row, SplitRows, check_group, split_rows
from tunestream.domain.gate.window import Window
from tunestream.domain.models.live import LiveCollector
from tunestream.events.base import Wire
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.training import CurriculumState, Objective
from tunestream.events.trajectories import TrajectoryGroup
from tunestream.events.ttc import Tick

__all__ = ["CurriculumGate", "SelectedWindow"]

WindowKey = tuple[str, str]  # run, config digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedWindow:
    """A window whose selection trains.

    Attributes:
        run_id: of the run.
        digest: of the configuration under which its groups were made.
        objective: what the job optimises.
        epoch: number of the window within (run, digest), from 0.
        time: stream time of the decision, ms.
        train: rows to train on, never empty.
        validation: rows of held-out prompts, may be empty.
        groups: how many groups were selected.
        dropped: how many groups were left out, by reason.
        curriculum: after this epoch.
        policy_versions: that gave the rows, sorted.
        unversioned_rows: rows of which no version is known.
    """

    run_id: str
    digest: str
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


class GateState(Wire):
    """State record: where the curriculum of one (run, configuration) stands."""

    next_epoch: int
    curriculum: CurriculumState


class CurriculumGate:
    """Collects the groups of the runs on one partition.

    State keys: ``group/run/digest/arrival number/stream time`` holds a group's body as it came;
    ``epoch/run/digest`` a :class:`GateState`; ``run/run`` the run's stream time; ``live/run`` what its
    turns scored and was not told yet.

    Args:
        config: (run id, config digest) → the run's configuration; raises KeyError when unknown.
    """

    def __init__(self, config: Callable[[str, str], RunConfig]) -> None:
        self._config = config
        self._times: dict[str, int] = {}
        self._windows: dict[str, dict[str, Window]] = {}
        self._states: dict[WindowKey, GateState] = {}
        self._live = LiveCollector()

    @property
    def open_groups(self) -> int:
        """How many groups wait in windows."""
        return sum(len(window.keys) for windows in self._windows.values() for window in windows.values())

    def curriculum(self, run_id: str, digest: str) -> CurriculumState:
        """Return where the curriculum stands.

        Raises:
            KeyError: when the configuration is unknown.
        """
        return self._state(run_id, digest).curriculum

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
            self._states[run_id, rest[0]] = GateState.model_validate_json(value)
        else:
            digest, _, accepted = rest
            group = TrajectoryGroup.model_validate_json(value)
            self._window(run_id, digest, int(accepted)).restore(key, group)

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
            Refused: when a trajectory of the group makes no row; then nothing has changed.
            KeyError: when the group's configuration is unknown; then nothing has changed.
        """
        if isinstance(event, TrajectoryGroup):
            check_group(event)
            self._config(event.run_id, event.config_digest)
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
        due = sorted((window.deadline, digest) for digest, window in windows.items())
        selected: list[SelectedWindow] = []
        for deadline, digest in due:
            if deadline <= time:
                selected += self._close(run_id, digest, deadline, effects)
        self._times[run_id] = time
        effects.put(encode_key("run", run_id), b"%d" % time)
        return selected

    def _take(self, group: TrajectoryGroup, raw: bytes, effects: Effects) -> list[SelectedWindow]:
        if not group.trajectories:
            effects.counts["dropped_no_trajectories"] += 1
            return []
        run_id, digest = group.run_id, group.config_digest
        now = self._times[run_id]
        window = self._window(run_id, digest, now)
        effects.put(window.accept(group, now), raw)
        if window.full or window.deadline <= now:
            return self._close(run_id, digest, now, effects)
        return []

    def _window(self, run_id: str, digest: str, now: int) -> Window:
        windows = self._windows.setdefault(run_id, {})
        if digest not in windows:
            config = self._config(run_id, digest)
            windows[digest] = Window(encode_key("group", run_id, digest), config.batching, now)
        return windows[digest]

    def _state(self, run_id: str, digest: str) -> GateState:
        known = self._states.get((run_id, digest))
        if known is not None:
            return known
        config = self._config(run_id, digest).curriculum_learning
        return GateState(next_epoch=0, curriculum=initial_state(config))

    def _close(self, run_id: str, digest: str, now: int, effects: Effects) -> list[SelectedWindow]:
        """Run one epoch of the curriculum over a window."""
        window = self._windows[run_id].pop(digest)
        config, state = self._config(run_id, digest), self._state(run_id, digest)
        groups = list(window)
        selection = _select(groups, config, state, digest)
        after = GateState(next_epoch=state.next_epoch + 1, curriculum=selection.state)
        self._states[run_id, digest] = after
        effects.put(encode_key("epoch", run_id, digest), after.to_json())
        effects.changes.update(dict.fromkeys(window.keys))
        for reason, count in selection.dropped.items():
            effects.counts[f"dropped_{reason}"] += count
        rows = split_rows(_chosen(groups, selection), config.batching.validation_fraction)
        if not rows.train:
            effects.counts["all_held_out" if rows.validation else "empty_selection"] += 1
            return []
        return [_selected(config, digest, selection, rows, epoch=state.next_epoch, now=now)]


def _select(groups: list[TrajectoryGroup], config: RunConfig, state: GateState, digest: str) -> Selection:
    return select(
        [_rewards(group) for group in groups],
        sizes=[len(group.trajectories) for group in groups],
        epoch=state.next_epoch,
        state=state.curriculum,
        config=config.curriculum_learning,
        rng=subsampling(config.run_id, digest, state.next_epoch, config.batching.seed),
    )


def _rewards(group: TrajectoryGroup) -> list[float]:
    """Return what a group is ranked by: its candidates' scores, or its episodes' rewards."""
    if group.kind == "preference":
        return [member.score for member in group.scores]
    return [trajectory.reward for trajectory in group.trajectories]


def _chosen(groups: list[TrajectoryGroup], selection: Selection) -> Iterable[TrajectoryGroup]:
    chosen = [groups[at] for at in selection.groups]
    if selection.within is None:
        return chosen
    drawn = [chosen[0].trajectories[at] for at in selection.within]
    return [chosen[0].model_copy(update={"trajectories": drawn})]


def _selected(
    config: RunConfig, digest: str, selection: Selection, rows: SplitRows, *, epoch: int, now: int
) -> SelectedWindow:
    return SelectedWindow(
        run_id=config.run_id,
        digest=digest,
        objective=config.objective,
        epoch=epoch,
        time=now,
        train=rows.train,
        validation=rows.validation,
        groups=len(selection.groups),
        dropped=selection.dropped,
        curriculum=selection.state,
        policy_versions=rows.policy_versions,
        unversioned_rows=rows.unversioned,
    )
