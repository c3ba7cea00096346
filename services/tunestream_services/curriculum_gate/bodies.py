"""The bodies of groups that lie in the artifact store: fetched side by side, bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from tunestream.artifacts import ArtifactStore
from tunestream.events.trajectories import TrajectoryGroupRef

__all__ = ["Bodies"]

Key = TypeVar("Key")
Made = TypeVar("Made")

_ROOM: Final = 32 << 20  # bytes of bodies at a time; one that is larger is fetched alone


class Bodies:
    """Fetches stored bodies.

    Args:
        store: the artifact store.
        deadline: for one body, seconds.
        room: bytes that are fetched at a time, and as many that are kept for later.
    """

    def __init__(self, store: ArtifactStore, deadline: float, room: int = _ROOM) -> None:
        self._store = store
        self._deadline = deadline
        self._room = room
        self._kept: dict[str, bytes] = {}

    async def each(
        self, refs: Mapping[Key, TrajectoryGroupRef], read: Callable[[bytes], Made]
    ) -> dict[Key, Made]:
        """Return what is made of each body, by the key of its reference.

        Bodies are let go once they are read, but for those that :meth:`all` may want next.

        Raises:
            ArtifactError: when the store does not give one.
            TimeoutError: when it does not in time.
        """
        self._kept.clear()

        async def one(key: Key, ref: TrajectoryGroupRef) -> tuple[Key, Made]:
            body = await self._fetch(ref)
            if sum(map(len, self._kept.values())) + len(body) <= self._room:
                self._kept[ref.sha256] = body
            return key, await asyncio.to_thread(read, body)

        made: dict[Key, Made] = {}
        for batch in self.batches(refs.items(), lambda item: item[1].size):
            made.update(await asyncio.gather(*(one(key, ref) for key, ref in batch)))
        return made

    async def all(self, refs: Iterable[TrajectoryGroupRef]) -> dict[str, bytes]:
        """Return some bodies by their group's id; the caller bounds their size by :meth:`batches`.

        Raises:
            ArtifactError: when the store does not give one.
            TimeoutError: when it does not in time.
        """
        wanted = list(refs)
        found = await asyncio.gather(*map(self._fetch, wanted))
        return {ref.group_id: body for ref, body in zip(wanted, found, strict=True)}

    def batches(self, items: Iterable[Made], size: Callable[[Made], int]) -> Iterator[list[Made]]:
        """Divide what needs bodies so that those of one part are in memory together.

        Args:
            items: in order.
            size: returns the bytes that an item needs.
        """
        batch: list[Made] = []
        taken = 0
        for item in items:
            needed = size(item)
            if batch and taken + needed > self._room:
                yield batch
                batch, taken = [], 0
            batch.append(item)
            taken += needed
        if batch:
            yield batch

    async def _fetch(self, ref: TrajectoryGroupRef) -> bytes:
        kept = self._kept.get(ref.sha256)
        if kept is not None:
            return kept
        async with asyncio.timeout(self._deadline):
            return await asyncio.to_thread(self._store.get_bytes, ref.uri, ref.sha256)
