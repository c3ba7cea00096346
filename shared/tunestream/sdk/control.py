"""Steering a run: its jobs and its current version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tunestream.events.training import ControlCommand, ControlResult, TrainingBatch
from tunestream.sdk.environment import settings_or_environment
from tunestream.streams.control import send_command

if TYPE_CHECKING:
    from tunestream.config.settings import KafkaSettings

__all__ = ["RunControl"]


class RunControl:
    """Sends commands to the owner of a run and waits for its answers.

    An answer may be a refusal: look at ``accepted`` and ``reason``. Every method raises
    :class:`tunestream.streams.control.NobodyAnswered`, a TimeoutError, when no owner answers in time.

    Args:
        run_id: the run.
        settings: the broker; by default from the environment.
        timeout: seconds to wait for an answer.
        source: who asks, as in CloudEvents.

    Example::

        answer = await RunControl("tic-tac-toe").rollback(expected_generation=7)
        print(answer.accepted, answer.reason)
    """

    def __init__(
        self,
        run_id: str,
        *,
        settings: KafkaSettings | None = None,
        timeout: float = 30.0,
        source: str = "/tunestream/sdk",
    ) -> None:
        self._run_id = run_id
        self._settings = settings_or_environment(settings)
        self._timeout = timeout
        self._source = source

    async def submit(self, batch: TrainingBatch) -> ControlResult:
        """Train on a dataset; ``job_id`` of the answer names the job."""
        return await self._send(action="submit", batch=batch)

    async def submit_again(self, *, batch_id: str | None = None, job_id: str | None = None) -> ControlResult:
        """Train on a known batch again, named by itself or by a job that it had.

        The new job continues from the checkpoint of a canceled one while the run's current version is the
        one from which that began.
        """
        return await self._send(action="submit", batch_id=batch_id, job_id=job_id)

    async def cancel(self, job_id: str) -> ControlResult:
        """End a job as CANCELED, unless it is finished."""
        return await self._send(action="cancel", job_id=job_id)

    async def promote(
        self, version: str, *, expected_generation: int | None = None, force: bool = False
    ) -> ControlResult:
        """Make a version the run's current one.

        Args:
            version: the version.
            expected_generation: of the pointer; refused when it is another by now.
            force: take a version that its evaluation rejected.
        """
        return await self._send(
            action="promote", version=version, expected_generation=expected_generation, force=force
        )

    async def rollback(
        self, version: str | None = None, *, expected_generation: int | None = None
    ) -> ControlResult:
        """Make the version that was current before, or a named one, the run's current one."""
        return await self._send(action="rollback", version=version, expected_generation=expected_generation)

    async def _send(self, **fields: Any) -> ControlResult:
        command = ControlCommand(run_id=self._run_id, command_id=uuid4().hex, **fields)
        return await send_command(self._settings, command, source=self._source, timeout=self._timeout)
