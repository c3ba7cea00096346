"""From the rows of a dataset to the customizer's JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunestream.domain.gate.split import is_held_out, opening_of
from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow
from tunestream.events.ids import content_digest, stable_id
from tunestream.events.messages import OpenAIMessage, Prompt, Response, plain_text
from tunestream.events.trajectories import EpisodeItemRole
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.trl.selection import best_of

__all__ = ["HELD_OUT", "Records", "make_records", "split"]

HELD_OUT: Final = 0.2  # share of a collection's prompts that no training sees
_Rows = Sequence[DatasetRow | None]


@dataclass(frozen=True, slots=True)
class Records:
    """A dataset as the customizer reads it.

    Attributes:
        train: JSON lines.
        validation: JSON lines; empty when nothing is held out.
        rows: lines of ``train``.
        skipped: rows left out of ``train``, by reason.
    """

    train: bytes
    validation: bytes
    rows: int
    skipped: dict[str, int]

    @property
    def digest(self) -> str:
        """The same rows have the same one."""
        return content_digest(self.train + b"\0" + self.validation)

    @property
    def reasons(self) -> str:
        """Why rows were left out, for people."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))


class _Unusable(Exception):
    """A row teaches nothing; the argument is the reason's name."""


def split(
    run_id: str, rows: Sequence[DatasetRow], fraction: float
) -> tuple[Sequence[DatasetRow], Sequence[DatasetRow]]:
    """Hold out all rows of some prompts; none when nothing would be left to train on."""
    held_out = [is_held_out(run_id, _prompt(row), fraction) for row in rows]
    if all(held_out):
        return rows, []
    train = [row for row, out in zip(rows, held_out, strict=True) if not out]
    return train, [row for row, out in zip(rows, held_out, strict=True) if out]


def make_records(train: _Rows, validation: _Rows, config: NeMoCustomizerTrainerAdapterConfig) -> Records:
    """Write rows as the customizer's records, without those that teach nothing.

    Args:
        train: rows to train on; None for lines that were no row.
        validation: rows to validate with.
        config: what is trained, and how much of the prompt it sees.
    """
    skipped: Counter[str] = Counter()
    lines = _draw(_lines(train, config, skipped), config.max_pairs, skipped)
    checked = _lines(validation, config, Counter())
    return Records("".join(lines).encode(), "".join(checked).encode(), len(lines), dict(+skipped))


def _lines(rows: _Rows, config: NeMoCustomizerTrainerAdapterConfig, skipped: Counter[str]) -> list[str]:
    sft = config.hyperparameters.training_type == "sft"
    contenders = best_of(rows) if sft else rows
    skipped["not_best"] += len(rows) - len(contenders)
    lines = []
    for row in contenders:
        try:
            record = _completion(row, config) if sft else _preference(row, config)
            lines.append(f"{json.dumps(record)}\n")
        except _Unusable as reason:
            skipped[str(reason)] += 1
    if not config.deduplicate_pairs:
        return lines
    distinct = list(dict.fromkeys(lines))
    skipped["duplicate"] += len(lines) - len(distinct)
    return distinct


def _draw(lines: list[str], most: int | None, skipped: Counter[str]) -> list[str]:
    """Keep ``most`` lines, drawn by their content: the same ones every time."""
    if most is None or len(lines) <= most:
        return lines
    skipped["max_pairs"] += len(lines) - most
    drawn = sorted(range(len(lines)), key=lambda index: stable_id("draw", lines[index]))
    return [lines[index] for index in sorted(drawn[:most])]


def _preference(row: DatasetRow | None, config: NeMoCustomizerTrainerAdapterConfig) -> dict[str, Any]:
    if not isinstance(row, PreferenceRow):
        raise _Unusable("unreadable" if row is None else "wrong_kind")
    if row.chosen == row.rejected:
        raise _Unusable("identical_responses")
    chosen, rejected = _text(row.chosen), _text(row.rejected)
    messages = _asking(row.prompt, chosen, rejected)
    return {
        "prompt": messages if config.use_full_message_history else messages[-1]["content"],
        "chosen_response": chosen,
        "rejected_response": rejected,
    }


def _completion(row: DatasetRow | None, config: NeMoCustomizerTrainerAdapterConfig) -> dict[str, Any]:
    if row is None:
        raise _Unusable("unreadable")
    assert not isinstance(row, PreferenceRow)  # best_of made responses of them
    if isinstance(row, EpisodeRow):
        if not config.use_full_message_history or row.items[-1].role is not EpisodeItemRole.ASSISTANT:
            raise _Unusable("wrong_kind")  # one message does not show what an episode answers
        return {"messages": [{"role": item.role.value, "content": item.content} for item in row.items]}
    if config.use_full_message_history:
        return {"messages": [*_asking(row.prompt, *_texts(row.response)), _message(row.response)]}
    text = _text(row.response)
    return {"prompt": _asking(row.prompt, text)[-1]["content"], "completion": text}


def _text(response: Response) -> str:
    text = plain_text(response)
    if text is None:
        raise _Unusable("more_than_text")  # the customizer's records have no place for calls of tools
    return text


def _texts(response: Response) -> list[str]:
    """Return the text of a response, if it is nothing but text."""
    text = plain_text(response)
    return [] if text is None else [text]


def _message(response: Response) -> dict[str, Any]:
    if isinstance(response, str):
        return {"role": "assistant", "content": response}
    return response.model_dump()


def _asking(prompt: Prompt, *answers: str) -> list[dict[str, Any]]:
    """Return the messages of a prompt that asks something and does not hold its answer already."""
    messages = [OpenAIMessage(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    if not any(message.content.strip() for message in messages):
        raise _Unusable("empty_prompt")
    if not all(answers):
        raise _Unusable("empty_response")
    if messages[-1].role == "assistant" and messages[-1].content in answers:
        raise _Unusable("prompt_is_answer")
    return [message.model_dump() for message in messages]


def _prompt(row: DatasetRow) -> Prompt:
    return opening_of(row.items) if isinstance(row, EpisodeRow) else row.prompt
