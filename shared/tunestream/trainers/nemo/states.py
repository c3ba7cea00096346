"""What the customizer reports of a job → what we report. Every path ends: no state lasts for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tunestream.domain.jobs.lifecycle import TERMINAL
from tunestream.events.training import TrainingStatusEnum
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.nemo.views import StatusView

__all__ = ["Verdict", "Watch"]

_PENDING: Final = TrainingStatusEnum.PENDING
_RUNNING: Final = TrainingStatusEnum.RUNNING
_COMPLETED: Final = TrainingStatusEnum.COMPLETED
_FAILED: Final = TrainingStatusEnum.FAILED
_CANCELED: Final = TrainingStatusEnum.CANCELED

_CANCELLING: Final = "cancelling"
_STATES: Final = {
    "created": _PENDING,
    "pending": _PENDING,
    "running": _RUNNING,
    _CANCELLING: _RUNNING,
    "completed": _COMPLETED,
    "ready": _COMPLETED,
    "failed": _FAILED,
    "cancelled": _CANCELED,
    "canceled": _CANCELED,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be reported; ``reason`` names why an end was reached, ``progress`` is in per cent."""

    status: TrainingStatusEnum
    message: str
    progress: float | None = None
    reason: str | None = None


@dataclass(slots=True)
class Watch:
    """The memory of one job's watcher.

    Attributes:
        settings: the deadlines.
        now: seconds of a monotonic clock, when the watch begins.
    """

    settings: NeMoSettings
    now: float
    _status: TrainingStatusEnum = _PENDING
    _progress: float | None = None
    _unknown_since: float | None = None
    _cancel_since: float | None = None
    _seen: object = None
    _changed: float = field(init=False)

    def __post_init__(self) -> None:
        self._changed = self.now

    def cancel(self, now: float) -> None:
        """Remember since when the job is wanted to end."""
        self._cancel_since = now if self._cancel_since is None else self._cancel_since

    def judge(self, view: StatusView, now: float) -> Verdict:
        """Return what an answer means; progress never falls, and a job does not become PENDING again."""
        state = view.status.lower()
        known = _STATES.get(state)
        if state == _CANCELLING:
            self.cancel(now)
        self._notice_change(view, now)
        if known is not None:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = now
        if known in TERMINAL:
            return self._ended(known, view)
        return self._overdue(state, now) or self._going_on(known, view, state)

    def _notice_change(self, view: StatusView, now: float) -> None:
        seen = (view.status, view.percentage_done, view.steps_completed, view.epochs_completed)
        if seen != self._seen:
            self._seen, self._changed = seen, now

    def _ended(self, status: TrainingStatusEnum, view: StatusView) -> Verdict:
        if status is _COMPLETED:
            return Verdict(status, "trained by the customizer", 100.0)
        if status is _CANCELED:
            return Verdict(status, "canceled as asked", self._progress, "canceled")
        message = view.last_words or "without a reason; look at its container logs"
        return Verdict(status, f"the customizer's job failed: {message}", self._progress, "training_failed")

    def _overdue(self, state: str, now: float) -> Verdict | None:
        limits = self.settings
        if self._cancel_since is not None and now - self._cancel_since >= limits.cancel_timeout:
            message = f"the customizer did not confirm the end within {limits.cancel_timeout:g} s"
            return Verdict(_CANCELED, message, self._progress, "cancel_unconfirmed")
        if self._unknown_since is not None and now - self._unknown_since >= limits.unknown_timeout:
            message = f"the job is {state!r} for {limits.unknown_timeout:g} s, a state that nobody knows"
            return Verdict(_FAILED, message, self._progress, "state_unknown")
        if now - self._changed >= limits.stall_timeout:
            message = f"the job is {state!r} without any change for {limits.stall_timeout:g} s"
            return Verdict(_FAILED, message, self._progress, "stalled")
        return None

    def _going_on(self, known: TrainingStatusEnum | None, view: StatusView, state: str) -> Verdict:
        if known is not None and self._status is _PENDING:
            self._status = known
        if view.percentage_done is not None and self._status is _RUNNING:
            bounded = min(max(view.percentage_done, 0.0), 100.0)
            self._progress = max(self._progress or 0.0, bounded)
        epochs = "" if view.epochs_completed is None else f", epochs: {view.epochs_completed:g}"
        return Verdict(self._status, f"the customizer's job is {state}{epochs}", self._progress)
