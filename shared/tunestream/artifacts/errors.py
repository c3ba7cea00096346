"""What can be wrong with an artifact."""

from __future__ import annotations

__all__ = ["ArtifactCorrupt", "ArtifactError", "ArtifactMissing", "ArtifactUnreachable"]


class ArtifactError(Exception):
    """An artifact cannot be used."""


class ArtifactMissing(ArtifactError):
    """The store has no artifact of this name."""


class ArtifactCorrupt(ArtifactError):
    """The content does not match its digest."""


class ArtifactUnreachable(OSError):
    """The store does not answer, or refuses; the artifact may be as it should."""
