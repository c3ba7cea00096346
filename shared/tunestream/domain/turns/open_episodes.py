"""A group of an example's episodes that is not closed."""

from __future__ import annotations

from collections.abc import Iterator

from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.ttc import EpisodeStep

__all__ = ["OpenEpisodes"]


class OpenEpisodes:
    """Episodes by arrival number, and what is needed to close, to store and to restore them.

    Members may be restored in any order; all that is derived from them does not depend on it.

    Attributes:
        config_digest: of the configuration that the group opened with.
        rules: of that configuration.
        prefix: of the state keys of its members.
        fingerprints: by member id: the checksum of the body; a contradiction has another than a repeat.
        keys: state keys of the members.
        opened: stream time of the first member, ms.
        last: stream time of the latest member, ms.
    """

    __slots__ = (
        "_members",
        "config_digest",
        "fingerprints",
        "keys",
        "last",
        "opened",
        "prefix",
        "rules",
    )

    def __init__(self, config_digest: str, rules: GroupRules, prefix: bytes, opened: int) -> None:
        self.config_digest = config_digest
        self.rules = rules
        self.prefix = prefix
        self.fingerprints: dict[str, int] = {}
        self.keys: list[bytes] = []
        self.opened = opened
        self.last = opened
        self._members: dict[int, EpisodeStep] = {}

    def deadline(self, since: int) -> int:
        """Return the stream time at which the group closes unless another member comes, ms.

        Args:
            since: no member counts as older than this stream time, ms.
        """
        return max(self.last, since) + self.rules.idle_ms

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[EpisodeStep]:
        """Give the members in order of arrival."""
        return (self._members[number] for number in sorted(self._members))

    def accept(self, member: EpisodeStep, member_id: str, fingerprint: int, now: int) -> bytes:
        """Add a new member at stream time ``now`` and return its state key."""
        key = b"%b/%d/%d" % (self.prefix, len(self._members), now)
        self._members[len(self._members)] = member
        self.fingerprints[member_id] = fingerprint
        self.keys.append(key)
        self.last = now
        return key

    def restore(self, key: bytes, member: EpisodeStep, member_id: str, fingerprint: int) -> None:
        """Take back a member that :meth:`accept` gave ``key``."""
        _, number, accepted = key.rsplit(b"/", 2)
        self._members[int(number)] = member
        self.fingerprints[member_id] = fingerprint
        self.keys.append(key)
        self.opened = min(self.opened, int(accepted))
        self.last = max(self.last, int(accepted))
