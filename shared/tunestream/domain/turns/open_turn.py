"""A turn that is not closed: its candidates, and what is needed to close, to store and to restore it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

import msgspec

from tunestream.domain.turns.group_rules import GroupRules
from tunestream.domain.turns.members import Context, Members, fingerprints
from tunestream.events.views.candidates import MemberView, SingleView, TurnView, encode_part

__all__ = ["OpenTurn"]


class OpenTurn:
    """Candidates by arrival number.

    Parts may be restored in any order; all that is derived from them does not depend on it.

    Attributes:
        config_digest: of the configuration that the turn opened with.
        rules: of that configuration.
        marks: by candidate id: a contradiction has another checksum than a repeat.
        raw_marks: by candidate id: the checksum of the body it came in, of candidates that came alone.
        keys: its state keys.
        opened: stream time of the first candidate, ms.
        last: stream time of the latest candidate, ms.
        expected: how many candidates complete it; None when no event set it.
        ended: whether a record ended it.
        is_scored: whether every candidate came with its score.
    """

    __slots__ = (
        "_count",
        "_fresh",
        "_parts",
        "_settled",
        "config_digest",
        "ended",
        "expected",
        "is_scored",
        "keys",
        "last",
        "marks",
        "opened",
        "raw_marks",
        "rules",
    )

    def __init__(self, config_digest: str, rules: GroupRules, opened: int) -> None:
        self.config_digest = config_digest
        self.rules = rules
        self.marks: dict[str, int] = {}
        self.raw_marks: dict[str, int] = {}
        self.keys: list[bytes] = []
        self.opened = opened
        self.last = opened
        self.expected: int | None = None
        self.ended = False
        self.is_scored = True
        self._parts: dict[int, tuple[Context, Sequence[MemberView]]] = {}
        self._count = 0
        self._fresh: list[bytes] = []
        self._settled = 0

    def deadline(self, since: int) -> int:
        """Return the stream time at which the turn closes unless another candidate comes, ms.

        Args:
            since: no candidate counts as older than this stream time, ms.
        """
        return max(self.last, since) + self.rules.idle_ms

    @property
    def complete(self) -> bool:
        """Whether all candidates are here."""
        return self.ended or (self.expected is not None and self._count >= self.expected)

    @property
    def members(self) -> Members:
        """The candidates in order of arrival."""
        return Members.of_parts([self._parts[number] for number in sorted(self._parts)])

    @property
    def ids(self) -> list[str]:
        """Of the candidates, in order of arrival."""
        return [candidate.candidate_id for candidate in self.members.candidates]

    @property
    def unscored(self) -> list[str]:
        """Ids of the candidates that came without a score."""
        return [one.candidate_id for one in self.members.candidates if one.score is None]

    @property
    def size(self) -> int:
        """Bytes of the candidates and of what they answer."""
        candidates, contexts, _ = self.members
        return sum(len(one) for context in contexts for one in context if one) + sum(
            len(candidate.response) + len(candidate.raw_metadata) for candidate in candidates
        )

    @property
    def is_settled(self) -> bool:
        """Whether the state holds all of it."""
        return not self._fresh

    def __len__(self) -> int:
        return self._count

    def accept(
        self, part: TurnView, new: Sequence[MemberView], marks: Mapping[str, int], raw: bytes, now: int
    ) -> None:
        """Add candidates at stream time ``now``.

        Args:
            part: the record that they came in.
            new: those of its candidates that are not known, in order.
            marks: their fingerprints by id.
            raw: the record's body.
            now: ms.
        """
        if not new:
            return
        self._add(part, new, marks, self._count)
        self._fresh.append(raw if len(new) == len(part.candidates) else encode_part(part, new))
        self.last = now

    def settle(self, prefix: bytes) -> tuple[bytes, bytes]:
        """Return the state record, key and value, of what was accepted since the last one.

        Args:
            prefix: of the keys of the turn.
        """
        key = b"%b/%d/%d" % (prefix, self._settled, self.last)
        value = self._fresh[0] if len(self._fresh) == 1 else b"[" + b",".join(self._fresh) + b"]"
        self.keys.append(key)
        self._fresh = []
        self._settled = self._count
        return key, value

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a record that :meth:`settle` gave, or a candidate that an earlier release kept."""
        _, first, accepted = key.rsplit(b"/", 2)
        number = int(first)
        for part in _parts(value):
            self._add(part, part.candidates, fingerprints(part.candidates), number)
            number += len(part.candidates)
            self.expect(part)
            if isinstance(part, SingleView):
                self.mark_body(part, value)
        self._settled = max(self._settled, number)
        self.keys.append(key)
        self.opened = min(self.opened, int(accepted))
        self.last = max(self.last, int(accepted))

    def mark_body(self, part: SingleView, raw: bytes) -> None:
        """Note the checksum of the body of a candidate, which is what format 2 remembers."""
        self.raw_marks[part.candidates[0].candidate_id] = crc32(raw)

    def _add(self, part: TurnView, new: Sequence[MemberView], marks: Mapping[str, int], number: int) -> None:
        self._parts[number] = (Context(part.prompt, part.tools, part.prompt_token_ids), new)
        self._count += len(new)
        self.marks.update(marks)
        if None in [candidate.score for candidate in new]:
            self.is_scored = False

    def expect(self, part: TurnView) -> None:
        """Note how many candidates are to come; the largest number that was given counts."""
        count = part.expected_candidates
        if count is not None and (self.expected is None or count > self.expected):
            self.expected = count
        self.ended |= part.complete


def _parts(value: bytes) -> list[TurnView]:
    if value[:1] == b"[":
        return [_part(bytes(raw)) for raw in _read_list(value)]
    return [_part(value)]


def _part(value: bytes) -> TurnView:
    try:
        return SingleView.decode(value)
    except msgspec.ValidationError:
        return TurnView.decode(value)


_read_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
