"""Dead letters from outside the services: read, counted, sent again and deleted."""

from tunestream.streams.letters.letter import SOURCES, DeadLetter
from tunestream.streams.letters.marks import Marks, read_marks
from tunestream.streams.letters.purging import Purge, plan_purge, purge
from tunestream.streams.letters.reading import Choice, StoredLetter, chosen_letters, named_letters
from tunestream.streams.letters.replaying import Overtaken, Replayed, replay
from tunestream.streams.letters.summary import ReasonCount, summary

__all__ = [
    "SOURCES",
    "Choice",
    "DeadLetter",
    "Marks",
    "Overtaken",
    "Purge",
    "ReasonCount",
    "Replayed",
    "StoredLetter",
    "chosen_letters",
    "named_letters",
    "plan_purge",
    "purge",
    "read_marks",
    "replay",
    "summary",
]
