"""The curriculum gate's core: groups of trajectories collect into windows, each one an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.run import RunConfig
from tunestream.domain.deadlines import Deadlines
from tunestream.domain.effects import Effects, Refused
from tunestream.domain.gate.bodies import Arrival, arrival_of, read_group
from tunestream.domain.gate.closed_window import ClosedWindow, closed_window
from tunestream.domain.gate.curriculum import Curricula
from tunestream.domain.gate.recent import RecentGroups, name_of
from tunestream.domain.gate.strategy import strategy_of
from tunestream.domain.gate.window import Held, Window
from tunestream.domain.models.live import LiveCollector
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.runs import FORMAT, TURN_FORMAT
from tunestream.events.training import CurriculumState
from tunestream.events.ttc import Tick

__all__ = ["CurriculumGate", "configuration_of"]

_Waiting = tuple[str, str, str]  # run, _LIVE or _WINDOW, digest of a window
_KINDS: Final = frozenset({"run", "live", "epoch", "strategy", "group", "recent"})

_LIVE: Final = "live"
_WINDOW: Final = "window"
# Earlier releases read these keys as the clocks of two more runs.
_CLOCK_KEY: Final = b"run/*"
_SINCE_KEY: Final = b"run/*since"


class CurriculumGate:
    """Collects the groups of the runs on one partition.

    State keys: ``group/run/digest/arrival number/stream time`` holds a group's body as it came, or the
    reference that came in its place; ``epoch/run/digest`` and ``strategy/run/digest`` are those of
    :class:`Curricula`, ``recent/…`` of :class:`RecentGroups`; ``live/…`` what its turns scored and was not
    sent yet; ``run/*`` the stream time, and ``run/*since`` from when on it counts.
    Earlier releases kept a clock for each run, which agents moved: the state of such a release counts from
    the first record after it.

    Args:
        config: (run id, config digest) → the run's configuration; raises KeyError when unknown.
        partition: of ``trajectories``.
        writes: returns what the deployment writes now, a number that :class:`.FormatRecord` explains.
    """

    def __init__(
        self,
        config: Callable[[str, str], RunConfig],
        *,
        partition: int = 0,
        writes: Callable[[], int] = lambda: FORMAT,
    ) -> None:
        self._config = config
        self._writes = writes
        self._partition = partition
        self._now = -1
        self._since = -1
        self._outdated: list[bytes] = []
        self._windows: dict[str, dict[str, Window]] = {}
        self._curricula = Curricula()
        self._recent = RecentGroups()
        self._live = LiveCollector()
        self._deadlines = Deadlines[_Waiting](self._deadline)

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

    def restore(self, key: bytes, value: bytes, stored: Arrival | None = None) -> None:
        """Take back one live record of the changelog; the order does not matter.

        What a later release added, keys and fields, is left out.

        Args:
            key: of the record.
            value: of the record.
            stored: the group whose body ``value`` refers to, where it is a reference.

        Raises:
            KeyError: when the configuration of an open window is unknown.
        """
        kind, *parts = decode_key(key)
        if kind not in _KINDS:
            return
        run_id, *rest = parts
        if key == _CLOCK_KEY:
            self._now = int(value.split()[0])
        elif key == _SINCE_KEY:
            self._since = int(value.split()[0])
        elif kind == "run":
            self._outdated.append(key)
        elif kind == "live":
            self._live.restore(run_id, value, *rest)
            self._note((run_id, _LIVE, ""))
        elif kind == "epoch":
            self._curricula.restore_epoch(run_id, rest[0], value)
        elif kind == "strategy":
            self._curricula.restore_strategy(run_id, rest[0], value)
        elif kind == "group":
            config_digest, _, accepted = rest
            group = arrival_of(read_group(value)) if stored is None else stored
            name = name_of(group)
            self._recent.add(name)
            held = Held(group, name, value, stored=stored is not None)
            self._window(run_id, config_digest, int(accepted)).restore(key, held)
            self._note((run_id, _WINDOW, config_digest))
        elif kind == "recent":
            self._recent.restore(key, value)

    def handle(
        self,
        event: Arrival | Tick,
        *,
        time: int,
        raw: bytes,
        effects: Effects,
        origin: int | None = None,
        stored: bool = False,
    ) -> list[ClosedWindow]:
        """Advance stream time, close the windows that are due of any run, and take the group.

        Args:
            event: what came.
            time: the record's time, ms.
            raw: the record's body as bytes, kept while the group's window is open.
            effects: receives the state's changes, the counts, and the live scores that are due.
            origin: the partition of ``ttc.candidates`` that a group comes from; ``time`` counts when it is
                this partition's number, or None.
            stored: whether ``raw`` is a reference to the group's body.

        Returns:
            The windows that were closed, in order.

        Raises:
            Refused: when the run's curriculum strategy is not installed here; then nothing has changed.
            KeyError: when the group's configuration is unknown; then nothing has changed.
            StrategyFailed: when a strategy breaks its contract.
        """
        if isinstance(event, Arrival):
            _check_strategy(self._config(event.run_id, event.config_digest))
        closed: list[ClosedWindow] = []
        if origin is None or origin == self._partition:
            closed += self._advance(time, effects)
        if isinstance(event, Arrival):
            closed += self._take(event, raw, stored, effects)
        return closed

    def _advance(self, time: int, effects: Effects) -> list[ClosedWindow]:
        if self._outdated or self._now < 0:
            self._since = max(self._now, time)
            effects.put(_SINCE_KEY, b"%d" % self._since)
            effects.changes.update(dict.fromkeys(self._outdated))
            self._outdated.clear()
        if time <= self._now:
            return []
        closed: list[ClosedWindow] = []
        while (due := self._deadlines.next_due(time)) is not None:
            deadline, key = due
            run_id, kind, config_digest = key
            if kind == _LIVE:
                self._deadlines.forget(key)
                self._live.publish(run_id, deadline, effects)
            else:
                closed.append(self._close(run_id, config_digest, deadline, effects))
        self._now = time
        effects.put(_CLOCK_KEY, b"%d" % time)
        return closed

    def _take(self, group: Arrival, raw: bytes, stored: bool, effects: Effects) -> list[ClosedWindow]:
        run_id, config_digest, now = group.run_id, group.config_digest, max(self._now, 0)
        name = name_of(group)
        if name in self._recent:
            effects.counts["dropped_duplicate"] += 1
            return []
        live = self._config(run_id, config_digest).evaluation.live
        if live is not None:
            by_example = self._writes() >= TURN_FORMAT
            self._live.take(group, live, now, effects, by_example=by_example)
            self._note((run_id, _LIVE, ""))
        if not group.size:
            effects.counts["dropped_no_trajectories"] += 1
            return []
        self._recent.add(name)
        window = self._window(run_id, config_digest, now)
        effects.put(window.accept(Held(group, name, raw, stored), now), raw)
        if window.full or (deadline := window.deadline(self._since)) <= now:
            return [self._close(run_id, config_digest, now, effects)]
        self._deadlines.note((run_id, _WINDOW, config_digest), deadline)
        return []

    def _window(self, run_id: str, config_digest: str, now: int) -> Window:
        windows = self._windows.setdefault(run_id, {})
        if config_digest not in windows:
            config = self._config(run_id, config_digest)
            windows[config_digest] = Window(encode_key("group", run_id, config_digest), config.batching, now)
        return windows[config_digest]

    def _note(self, key: _Waiting) -> None:
        if (deadline := self._deadline(key)) is not None:
            self._deadlines.note(key, deadline)

    def _deadline(self, key: _Waiting) -> int | None:
        run_id, kind, config_digest = key
        if kind == _LIVE:
            due = self._live.due(run_id)
            return None if due is None else max(due, self._since)
        window = self._windows.get(run_id, {}).get(config_digest)
        return None if window is None else window.deadline(self._since)

    def _close(self, run_id: str, config_digest: str, now: int, effects: Effects) -> ClosedWindow:
        """Run one epoch of the curriculum over a window."""
        self._deadlines.forget((run_id, _WINDOW, config_digest))
        window = self._windows[run_id].pop(config_digest)
        if not self._windows[run_id]:
            del self._windows[run_id]
        config, groups = self._config(run_id, config_digest), list(window)
        arrivals = [held.group for held in groups]
        epoch = self._curricula.run(config, config_digest, arrivals, effects)
        effects.changes.update(dict.fromkeys(window.keys))
        place, write = (run_id, config_digest, epoch.number), self._writes() >= TURN_FORMAT
        self._recent.close(place, [held.name for held in groups], effects, write=write)
        for reason, count in epoch.selection.dropped.items():
            effects.counts[f"dropped_{reason}"] += count
        return closed_window(config, config_digest, epoch, groups, now)


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
