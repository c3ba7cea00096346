"""The collector's core: judges what agents publish and keeps the stream's clock.

Stream time comes from records alone, with one exception that is made here and nowhere else: when a run
is silent, a tick carries the time that passed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tunestream.config.run.durations import milliseconds
from tunestream.config.run.run import RunConfig
from tunestream.config.run.trajectory_builder import ARTTrajectoryBuilderConfig
from tunestream.domain.effects import Effects, Outbound
from tunestream.events.base import Wire
from tunestream.events.ids import stable_id
from tunestream.events.keys import decode_key, encode_key
from tunestream.events.ttc import CandidateStep, EpisodeStep, ExampleEnd, Tick, TurnEnd

__all__ = ["DEFAULT_GRACE_MS", "Collector", "Normalised"]

DEFAULT_GRACE_MS: Final = 5_000
TICK_SECONDS: Final = 1.0

Normalised = CandidateStep | TurnEnd | ExampleEnd | EpisodeStep


@dataclass(slots=True)
class _Clock:
    """The stream's clock of one run on this partition.

    Attributes:
        time: stream time, ms.
        until: stream time at which the longest deadline of the run has passed, ms.
        seen: monotonic time of the last record or tick, s.
        moved: whether it changed since it was last put down.
    """

    time: int
    until: int
    seen: float
    moved: bool = False


class Collector:
    """One partition's clocks, one for each run.

    Args:
        partition: of ``ttc.events``; ticks go to the same partition of ``ttc.candidates``.
        grace_ms: how far an agent's clock may be ahead of the log's.
    """

    def __init__(self, partition: int, grace_ms: int = DEFAULT_GRACE_MS) -> None:
        self._partition = partition
        self._grace = grace_ms
        self._clocks: dict[str, _Clock] = {}
        self._longest_waits: dict[str, int] = {}

    def restore(self, key: bytes, value: bytes) -> None:
        """Take one run's clock from the changelog."""
        time, until = value.split()
        self._clocks[decode_key(key)[0]] = _Clock(int(time), int(until), seen=float("-inf"))

    def resume(self, now: float) -> None:
        """Begin to measure silence at ``now`` (monotonic, s)."""
        for clock in self._clocks.values():
            clock.seen = now

    def clamp(self, time: int | None, log_time: int) -> int:
        """Return an event's time in ms, which no agent's clock can push ahead of the log's."""
        return log_time if time is None else min(time, log_time + self._grace)

    def take(
        self, body: Normalised, config: RunConfig, config_digest: str, time: int, now: float, effects: Effects
    ) -> Outbound:
        """Advance the run's clock and emit a normalised event.

        Args:
            body: what was published, normalised.
            config: the run's configuration, digest included.
            config_digest: of ``config``.
            time: the event's clamped time, ms.
            now: monotonic clock, s.
            effects: takes the output.
        """
        wait = self._longest_waits.get(config_digest)
        if wait is None:
            wait = self._longest_waits[config_digest] = self._longest_wait(config)
        clock = self._clocks.get(body.run_id)
        if clock is None:
            clock = self._clocks[body.run_id] = _Clock(time, time + wait, now, moved=True)
        clock.seen = now
        if time > clock.time:
            clock.time, clock.moved = time, True
        if time + wait > clock.until:
            clock.until, clock.moved = time + wait, True
        output = Outbound(
            topic="ttc.candidates",
            body=body,
            id=_identify(body, time),
            time=time,
            key=(body.run_id, body.example_id),
            extensions={"tsdigest": config_digest},
        )
        effects.outbound.append(output)
        return output

    def _longest_wait(self, config: RunConfig) -> int:
        builder = config.trajectory_builder
        idle = (
            builder.idle_timeout if isinstance(builder, ARTTrajectoryBuilderConfig) else builder.turn_timeout
        )
        waits = [config.batching.flush_after, config.batching.max_wait]
        if config.evaluation.live is not None:
            waits.append(config.evaluation.live.every)
        return milliseconds(idle) + milliseconds(max(waits)) + 2 * self._grace

    def settle(self, effects: Effects) -> None:
        """Put down the clocks that moved; once, at the end of a transaction."""
        for run_id, clock in self._clocks.items():
            if clock.moved:
                effects.put(encode_key(run_id), b"%d %d" % (clock.time, clock.until))
                clock.moved = False

    def silent(self, now: float) -> bool:
        """Return whether a run waits for a tick at ``now`` (monotonic, s)."""
        return any(self._awaits_tick(clock, now) for clock in self._clocks.values())

    def _awaits_tick(self, clock: _Clock, now: float) -> bool:
        return clock.time < clock.until and now - clock.seen >= TICK_SECONDS

    def tick(self, now: float, effects: Effects) -> None:
        """Emit a tick for each silent run; only when every record of the partition was taken."""
        for run_id, clock in self._clocks.items():
            if not self._awaits_tick(clock, now):
                continue
            clock.time += int((now - clock.seen) * 1000)
            clock.seen, clock.moved = now, True
            effects.outbound.append(
                Outbound(
                    topic="ttc.candidates",
                    body=Tick(run_id=run_id),
                    id=stable_id("tick", run_id, str(self._partition), str(clock.time)),
                    time=clock.time,
                    key=(run_id,),
                    partition=self._partition,
                )
            )

    @property
    def waiting_runs(self) -> int:
        """Runs whose longest deadline has not passed."""
        return sum(clock.time < clock.until for clock in self._clocks.values())


def _identify(body: Normalised, time: int) -> str:
    if isinstance(body, CandidateStep):
        return body.candidate_id
    if isinstance(body, EpisodeStep):
        return body.episode_id
    return _marker_id(body, time)


def _marker_id(body: Wire, time: int) -> str:
    return stable_id(type(body).__name__, body.to_json().decode(), str(time))
