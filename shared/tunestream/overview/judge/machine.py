"""This machine: its packages, its disks, the artifact store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tunestream.overview.facts import DiskFacts, StoreFacts
from tunestream.overview.findings import Finding

__all__ = ["judge_disk", "judge_packages", "judge_store"]

_LEAST_FREE: Final = 0.1
_GIB: Final = 1 << 30


def judge_packages(installed: str, wrong: Sequence[str]) -> list[Finding]:
    """Return whether what is installed is what tunestream was made for.

    Args:
        installed: the packages that matter, with their versions.
        wrong: a sentence for each that does not fit.
    """
    if not wrong:
        return [Finding.ok("packages", installed)]
    remedy = "Install with the project's constraints.txt"
    return [Finding.fail("packages", problem, remedy) for problem in wrong]


def judge_store(facts: StoreFacts) -> Finding:
    """Return whether the artifact store can be written."""
    if facts.problem is None:
        return Finding.ok("artifact store", f"{facts.url} can be written")
    remedy = "Correct its rights or its credentials, or set TUNESTREAM_ARTIFACTS to another"
    return Finding.fail("artifact store", f"{facts.url} cannot be written: {facts.problem}", remedy)


def judge_disk(facts: DiskFacts) -> Finding:
    """Return whether a disk has room."""
    free = facts.free / facts.total
    text = f"{free:.0%} free, {facts.free / _GIB:,.1f} GiB, at {facts.folder}"
    if free >= _LEAST_FREE:
        return Finding.ok("disk", text)
    remedy = "Make room: tunestream models gc deletes weights that nothing refers to"
    return Finding.fail("disk", text, remedy)
