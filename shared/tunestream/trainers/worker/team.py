"""Several processes that train one job together, launched by ``accelerate``.

Each works on its share of every batch; torch's data parallelism keeps their weights equal. The first one
leads: it alone reports to the owner and writes to the artifact store. When one of them fails, the owner
ends all of them and starts new ones: the others may wait for that one forever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tunestream.trainers.port import JobSpec
from tunestream.trainers.worker.channel import Channel, JobCanceled
from tunestream.trainers.worker.lines import EXIT_ORPHANED
from tunestream.trainers.worker.protocol import Failed, Terminal

__all__ = ["TeamChannel", "open_channel"]

_LOOK_SECONDS: Final = 1.0
_FAILURES: Final = "failed-*.json"
# Of a process that waits for the next job; an idle worker is no fault.
_PATIENCE: Final = timedelta(days=365)


def open_channel(scratch: Path, heartbeat_timeout: float) -> Channel | TeamChannel:
    """Open the line to the owner, as torch's launcher numbered this process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Channel(scratch, heartbeat_timeout)
    rank = int(os.environ["RANK"])
    return TeamChannel(None if rank else Channel(scratch, heartbeat_timeout), scratch, rank)


class TeamChannel:
    """What one of several processes has in place of a :class:`Channel`.

    All of them call its methods in the same order; a job is canceled in all at the same call.

    Args:
        channel: of the leader; None in the others.
        scratch: the worker's temporary folder, the same in all processes.
        rank: of this process; 0 leads.
    """

    def __init__(self, channel: Channel | None, scratch: Path, rank: int) -> None:
        self.scratch = scratch
        self.leads = channel is not None
        self._channel = channel
        self._rank = rank
        self._group: Any = None
        self._parent = os.getppid()
        threading.Thread(target=self._watch, name="team", daemon=True).start()

    def ready(self) -> None:
        """Meet the other processes; the leader reports that jobs are taken now."""
        import torch  # noqa: PLC0415 - takes many seconds, in which the watch must run already
        from accelerate import PartialState  # noqa: PLC0415

        PartialState(cpu=not torch.cuda.is_available())
        self._group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        self.wait()
        if self._channel is not None:
            self._channel.ready()

    def jobs(self) -> Iterator[JobSpec]:
        """Yield the jobs as they come."""
        if self._channel is not None:
            for spec in self._channel.jobs():
                self.share(spec.model_dump_json())
                yield spec
        while True:
            yield JobSpec.model_validate_json(self.share(""))

    def update(self, **changes: Any) -> None:
        """Change the job's progress, as :meth:`Progress.after` does.

        Raises:
            JobCanceled: in all processes, when the job should stop.
        """
        canceled = ""
        if self._channel is not None:
            try:
                self._channel.update(**changes)
            except JobCanceled as reason:
                canceled = str(reason)
        if canceled := self.share(canceled):
            raise JobCanceled(canceled)

    def finish(self, report: Terminal) -> None:
        """Report how the job ended. A process that does not lead and failed waits for its end."""
        if self._channel is not None:
            self._channel.finish(report)
        elif isinstance(report, Failed):
            partial = self.scratch / f".failed-{self._rank}"
            partial.write_bytes(report.to_json())
            partial.rename(self.scratch / _FAILURES.replace("*", str(self._rank)))
            threading.Event().wait()

    def share(self, text: str) -> str:
        """Return the leader's text in all processes."""
        import torch  # noqa: PLC0415

        content = bytearray(text.encode())
        size = torch.tensor([len(content)])
        torch.distributed.broadcast(size, 0, group=self._group)
        if not size.item():
            return ""
        data = (
            torch.frombuffer(content, dtype=torch.uint8)
            if self.leads
            else torch.empty(int(size.item()), dtype=torch.uint8)
        )
        torch.distributed.broadcast(data, 0, group=self._group)
        return bytes(data.tolist()).decode()

    def wait(self) -> None:
        """Wait until all processes are here."""
        import torch  # noqa: PLC0415

        torch.distributed.barrier(group=self._group)

    def _watch(self) -> None:
        reported = False
        while os.getppid() == self._parent:
            time.sleep(_LOOK_SECONDS)
            if self._channel is not None and not reported:
                reported = self._report_failure(self._channel)
        os._exit(EXIT_ORPHANED)  # the launcher is gone, and with it the owner's way to end this process

    def _report_failure(self, channel: Channel) -> bool:
        """Report the failure of another process, for which this one may wait forever."""
        for file in self.scratch.glob(_FAILURES):
            channel.finish(Failed.model_validate_json(file.read_bytes()))
            return True
        return False
