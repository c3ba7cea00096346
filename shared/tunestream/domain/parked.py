"""State whose run's configuration cannot be read: it waits, and holds up nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["Parked"]

Configuration = tuple[str, str]  # run id, digest


class Parked:
    """Restored records of a changelog by the configuration that they need.

    They stay in the changelog, so a restart finds them again. Their keys have three parts or more, which "/"
    joins: the first three are what they are found by.
    """

    def __init__(self) -> None:
        self._records: dict[Configuration, dict[bytes, bytes]] = {}
        self._needed: dict[bytes, dict[Configuration, None]] = {}

    def __len__(self) -> int:
        """Return how many records wait."""
        return sum(map(len, self._records.values()))

    def __bool__(self) -> bool:
        return bool(self._records)

    def keep(self, configuration: Configuration, key: bytes, value: bytes) -> None:
        """Let a record wait for its configuration."""
        self._records.setdefault(configuration, {})[key] = value
        self._needed.setdefault(b"/".join(key.split(b"/", 3)[:3]) + b"/", {})[configuration] = None

    def release(self, readable: Callable[[str, str], bool]) -> Iterator[tuple[bytes, bytes]]:
        """Give back the records whose configuration can be read now; they wait no longer."""
        for configuration in [found for found in self._records if readable(*found)]:
            for needed in self._needed.values():
                needed.pop(configuration, None)
            self._needed = {prefix: needed for prefix, needed in self._needed.items() if needed}
            yield from self._records.pop(configuration).items()

    def needs(self, prefix: bytes) -> Configuration | None:
        """Return which configuration a waiting record needs, if any does.

        Args:
            prefix: the first three parts of the record's key, each with a "/" behind it.
        """
        return next(iter(self._needed.get(prefix, ())), None)

    def warnings(self) -> list[str]:
        """Return a line for each configuration, with the remedy."""
        return [
            f"run {run_id}: {len(records)} records of state wait, since its configuration {digest} cannot be "
            "read; apply the run again with `tunestream run apply`"
            for (run_id, digest), records in self._records.items()
        ]
