"""What is installed, against what tunestream was made for; extras that are absent are fine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from packaging.requirements import Requirement

__all__ = ["installed_packages", "wrong_packages"]

_SHOWN: Final = ("tunestream", "aiokafka", "pydantic", "faststream", "torch", "transformers", "trl", "peft")


def installed_packages() -> str:
    """Return the packages that matter, with their versions."""
    return ", ".join(f"{name} {found}" for name in _SHOWN if (found := _installed(name)))


def wrong_packages(requirements: Iterable[str] | None = None) -> Iterator[str]:
    """Yield a sentence for each package that is missing or of another version.

    Args:
        requirements: as a distribution states them; by default those of tunestream.
    """
    for text in (requires("tunestream") or ()) if requirements is None else requirements:
        wanted = Requirement(text)
        found = _installed(wanted.name)
        if found is None:
            if wanted.marker is None:
                yield f"{wanted.name} is not installed; {wanted} is needed"
        elif not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name} {found} is installed; {wanted.name}{wanted.specifier} is needed"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
