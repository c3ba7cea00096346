"""The collector's core: carries the stream's clock from the broker to everything behind it.

Stream time comes from records alone, with one exception that is made here and nowhere else: when the
partition is silent, a tick carries the time that passed since.
"""

from __future__ import annotations

from typing import Final

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import ARTTrajectoryBuilderConfig
from tunestream.domain.collector.clock import PartitionClock
from tunestream.domain.effects import Effects, Outbound, Spliced
from tunestream.domain.ticks import TICK_MS, new_tick
from tunestream.events.base import Wire
from tunestream.events.ids import stable_id, turn_record_id
from tunestream.events.keys import encode_key
from tunestream.events.scores import ScoreStep
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, TurnEnd
from tunestream.events.turns import TurnStep

__all__ = ["Collector", "Normalised"]

Normalised = CandidateStep | TurnStep | ScoreStep | TurnEnd | ExampleEnd | EpisodeStep

_TOPIC: Final = "ttc.candidates"
_TICK_SECONDS: Final = TICK_MS / 1000
# Between ticks once every deadline has passed. What waits at the gate may wait for another partition's runs.
_IDLE_TICK_SECONDS: Final = 10.0
# Earlier releases read these keys as those of two runs that wait for nothing, or for a tick.
_TIME_KEY: Final = b"*"
_LOG_KEY: Final = b"*log"


class Collector:
    """One partition's clock.

    State keys: ``*`` holds stream time and the time until which a tick is due every second, ``*log`` the rest
    of the clock. Earlier releases keep a clock for each run, with the same two numbers. Without it they send
    the run no tick, so it is kept for them as long as they may come back.

    Args:
        partition: of ``ttc.events``; all outputs go to the same partition of ``ttc.candidates``.
        replay: whether time comes from records alone: nothing ticks.
    """

    def __init__(self, partition: int, *, replay: bool = False) -> None:
        self._partition = partition
        self._replay = replay
        self._clock = PartitionClock()
        self._log: bytes | None = None
        self._by_run: set[bytes] = set()  # keys of the clocks of runs
        self._moved: dict[str, int] = {}  # until when runs wait that had records in this transaction
        self._longest_waits: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._until = 0  # stream time at which the longest deadline has passed
        self._seen = 0.0  # monotonic time of the last record
        self._active = 0.0  # monotonic time of the last record or tick
        self._settled = b""
        self._told = 0  # stream time of the last output

    @property
    def time(self) -> int:
        """Stream time, ms; 0 before the first record."""
        return self._clock.time

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one live record of the changelog; keys that a later release added are left alone."""
        if key == _TIME_KEY:
            time, self._until = (int(part) for part in value.split()[:2])
            self._clock.time = self._told = time
        elif key == _LOG_KEY:
            self._log = value
        elif b"/" not in key and not key.startswith(b"*"):
            self._by_run.add(key)

    def resume(self, now: float) -> None:
        """Begin to measure silence at ``now`` (monotonic, s)."""
        if self._log is not None:
            self._clock.restore(self._clock.time, self._log)
            self._log = None
        self._seen = now - self._clock.elapsed / 1000
        self._active = now

    def advance(self, log_time: int | None, now: float) -> None:
        """Move stream time on to a record, also to one that is refused.

        Args:
            log_time: when the broker took it, ms; None when the record does not show it: it moves nothing.
            now: monotonic clock, s.
        """
        self._active = now
        if log_time is not None:
            self._seen = now
            self._clock.record(log_time)

    def take(self, body: Normalised, config: RunConfig, config_digest: str, effects: Effects) -> Outbound:
        """Emit a normalised event at the present stream time.

        Args:
            body: what was published, normalised.
            config: the run's configuration, digest included.
            config_digest: of ``config``.
            effects: takes the output.
        """
        name = _identify(body, self._clock.time)
        return self.emit(body, name, (body.run_id, body.example_id), config, config_digest, effects)

    def emit(
        self,
        body: Wire | Spliced,
        name: str,
        key: tuple[str, str],
        config: RunConfig,
        config_digest: str,
        effects: Effects,
    ) -> Outbound:
        """Emit a body that is ready, as :meth:`take` does.

        Args:
            body: a model, or its JSON.
            name: the event's id.
            key: the run and the example.
            config: the run's configuration.
            config_digest: of ``config``.
            effects: takes the output.
        """
        wait = self._longest_waits.get(config_digest)
        if wait is None:
            wait = self._longest_waits[config_digest] = _longest_wait(config)
        time = self._told = self._clock.time
        run_id = key[0]
        until = self._waiting[run_id] = max(time + wait, self._waiting.get(run_id, 0))
        self._until = max(self._until, until)
        self._moved[run_id] = until
        output = Outbound(
            topic=_TOPIC,
            body=body,
            id=name,
            time=time,
            key=key,
            extensions={"tsdigest": config_digest},
            partition=self._partition,
        )
        effects.outbound.append(output)
        return output

    def keep_pace(self, effects: Effects) -> None:
        """Emit a tick when records that gave nothing have moved stream time on by a second."""
        if self._clock.time - self._told >= TICK_MS:
            self._emit_tick(effects)

    def settle(self, effects: Effects, *, by_run: bool = False) -> None:
        """Put down the clock if it moved; once, at the end of a transaction.

        Args:
            effects: takes the state.
            by_run: whether an earlier release may have to take it over.
        """
        self._settle_runs(effects, by_run=by_run)
        if not self._clock.begun:
            return
        time, log = b"%d %d" % (self._clock.time, self._until), self._clock.to_bytes()
        if time + log != self._settled:
            effects.put(_TIME_KEY, time)
            effects.put(_LOG_KEY, log)
            self._settled = time + log

    def _settle_runs(self, effects: Effects, *, by_run: bool) -> None:
        if by_run:
            for run_id, until in self._moved.items():
                key = encode_key(run_id)
                effects.put(key, b"%d %d" % (self._clock.time, until))
                self._by_run.add(key)
        else:
            effects.changes.update(dict.fromkeys(self._by_run))
            self._by_run.clear()
        self._moved.clear()

    def silent(self, now: float) -> bool:
        """Return whether a tick is due at ``now`` (monotonic, s), if every record was taken."""
        interval = _TICK_SECONDS if self._clock.time < self._until else _IDLE_TICK_SECONDS
        return not self._replay and now - self._active >= interval

    def tick(self, now: float, wall: int, effects: Effects) -> None:
        """Emit a tick; only when every record of the partition was taken.

        Args:
            now: monotonic clock, s.
            wall: milliseconds since the epoch; a partition that never had a record begins there.
            effects: takes the tick.
        """
        self._active = now
        if not self._clock.begun:
            self.advance(wall, now)
        self._clock.tick(int((now - self._seen) * 1000))
        if self._clock.time > self._told:
            self._emit_tick(effects)

    def _emit_tick(self, effects: Effects) -> None:
        self._told = self._clock.time
        effects.outbound.append(new_tick(_TOPIC, self._partition, self._told))

    @property
    def waiting_runs(self) -> int:
        """Runs with records since this process took the partition, whose deadlines have not passed."""
        time = self._clock.time
        self._waiting = {run: until for run, until in self._waiting.items() if until > time}
        return len(self._waiting)


def _longest_wait(config: RunConfig) -> int:
    """Return how long after a record something of its run may be due, ms."""
    builder = config.trajectory_builder
    idle = builder.idle_timeout if isinstance(builder, ARTTrajectoryBuilderConfig) else builder.turn_timeout
    waits = [config.batching.flush_after, config.batching.max_wait]
    if config.evaluation.live is not None:
        waits.append(config.evaluation.live.every)
    # A turn closes up to one tick after its deadline, and its window up to one more.
    return milliseconds(idle) + milliseconds(max(waits)) + 2 * TICK_MS


def _identify(body: Normalised, time: int) -> str:
    if isinstance(body, CandidateStep):
        return body.candidate_id
    if isinstance(body, EpisodeStep):
        return body.episode_id
    if isinstance(body, TurnStep):
        ids = [member.candidate_id for member in body.candidates]
        return turn_record_id(body.run_id, body.example_id, body.turn_id, ids, complete=body.complete)
    return _marker_id(body, time)


def _marker_id(body: Wire, time: int) -> str:
    return stable_id(type(body).__name__, body.to_json().decode(), str(time))
