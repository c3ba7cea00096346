"""``tunestream dlq list``."""

from __future__ import annotations

from tunestream.cli.dlq.options import ReasonOption, RunOption, TopicOption, read_letters, row
from tunestream.cli.output import JsonOption, show

__all__ = ["list_"]


def list_(
    topic: TopicOption = None, reason: ReasonOption = None, run: RunOption = None, as_json: JsonOption = False
) -> None:
    """List dead letters, oldest first."""
    rows = [row(letter) for letter in read_letters(topic, reason, run)]
    columns = ("letter", "time", "run", "reason", "replayable", "message")
    show(rows, as_json=as_json, columns=columns, empty="No dead letters.")
