"""Dead letters counted by topic and reason."""

from __future__ import annotations

from dataclasses import dataclass

from tunestream.config.settings import KafkaSettings
from tunestream.streams.letters.dead_letters import why_final
from tunestream.streams.letters.marks import read_marks
from tunestream.streams.letters.reading import Choice, chosen_letters

__all__ = ["ReasonCount", "summary"]


@dataclass(slots=True)
class ReasonCount:
    """The letters of one topic and reason.

    Attributes:
        source: catalogue name of the topic they were refused from.
        code: of the reason.
        count: how many there are.
        replayed: how many of them were sent again.
        first: time of the oldest, milliseconds since the epoch.
        last: time of the newest, milliseconds since the epoch.
    """

    source: str
    code: str
    count: int
    replayed: int
    first: int
    last: int

    @property
    def final(self) -> bool:
        """Whether sending them again can never help."""
        return why_final(self.code) is not None


async def summary(settings: KafkaSettings, choice: Choice) -> list[ReasonCount]:
    """Count the letters of a choice that there are now, the most frequent reason first."""
    marks = await read_marks(settings)
    found: dict[tuple[str, str], ReasonCount] = {}
    async for letter in chosen_letters(settings, choice):
        name, time = (letter.source, letter.code), letter.time
        one = found.setdefault(name, ReasonCount(*name, count=0, replayed=0, first=time, last=time))
        one.count += 1
        one.replayed += marks.replayed(letter) is not None
        one.first, one.last = min(one.first, time), max(one.last, time)
    return sorted(found.values(), key=lambda one: (-one.count, one.source, one.code))
