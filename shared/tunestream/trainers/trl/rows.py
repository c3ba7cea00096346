"""From prompts and responses to token ids, leaving out what cannot be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

from tunestream.events.dataset import DatasetRow, PreferenceRow, ResponseRow
from tunestream.events.messages import Prompt, plain_text
from tunestream.events.messages import Response as Written
from tunestream.trainers.trl.examples import Examples, Marked, Preference, Response

__all__ = ["encode", "tokenise_labelled", "tokenise_preferences", "tokenise_responses"]

Asked = tuple[Prompt, tuple[Written, ...]]
"""A prompt and one or more responses to it."""


def tokenise_preferences(
    rows: Iterable[DatasetRow | None], tokenizer: Any, max_length: int | None
) -> Examples[Preference]:
    """Tokenise preference rows; others are left out.

    Args:
        rows: in order; None stands for a line that could not be read.
        tokenizer: a transformers tokenizer.
        max_length: tokens of prompt and response together; None for no limit.
    """
    examples: Examples[Preference] = Examples()
    asked = (_preference(row) for row in rows)
    for prompt, (chosen, rejected) in encode(asked, tokenizer, examples.skipped):
        reason = _unusable(prompt, (chosen, rejected), max_length)
        if reason is None:
            examples.usable.append(Preference(prompt, chosen, rejected))
        else:
            examples.skipped[reason] += 1
    return examples


def tokenise_responses(
    rows: Iterable[DatasetRow | None], tokenizer: Any, max_length: int | None
) -> Examples[Marked]:
    """Tokenise rows of prompt and response, marking the response; others are left out."""
    examples: Examples[Marked] = Examples()
    asked = (_response(row) for row in rows)
    for prompt, (response,) in encode(asked, tokenizer, examples.skipped):
        reason = _unusable(prompt, (response,), max_length)
        if reason is None:
            examples.usable.append(Marked.of(prompt, response, max_length))
        else:
            examples.skipped[reason] += 1
    return examples


def tokenise_labelled(
    rows: Iterable[DatasetRow | None], tokenizer: Any, max_length: int | None
) -> Examples[Response]:
    """Tokenise rows of a response and its label, the desirable ones first; others are left out."""
    examples: Examples[Response] = Examples()
    given = list(rows)
    labelled = [row for row in given if isinstance(row, ResponseRow) and row.label is not None]
    examples.skipped["wrong_kind"] = len(given) - len(labelled)
    for label in (True, False):
        asked = ((row.prompt, (row.response,)) for row in labelled if row.label is label)
        for prompt, (response,) in encode(asked, tokenizer, examples.skipped):
            reason = _unusable(prompt, (response,), max_length)
            if reason is None:
                examples.usable.append(Response(prompt, response, label))
            else:
                examples.skipped[reason] += 1
    return examples


def encode(
    rows: Iterable[Asked | str], tokenizer: Any, skipped: Counter[str]
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Tokenise prompts with the model's chat template, or as plain text where it has none.

    A response starts where the ids of prompt and of prompt + response part, as in TRL.

    Args:
        rows: in order; a text is the reason for which a row is left out.
        tokenizer: a transformers tokenizer.
        skipped: counts the rows that have no text by reason.
    """
    rendered = []
    for row in rows:
        texts = row if isinstance(row, str) else _render(*row, tokenizer)
        if isinstance(texts, str):
            skipped[texts] += 1
        else:
            rendered.append(texts)
    if not rendered:
        return
    special = tokenizer.chat_template is None  # a chat template writes its own special tokens
    flat = [text for texts in rendered for text in texts]
    ids = iter(tokenizer(flat, add_special_tokens=special)["input_ids"])
    for texts in rendered:
        yield _split(*(next(ids) for _ in texts))


def _preference(row: DatasetRow | None) -> Asked | str:
    if isinstance(row, PreferenceRow):
        return row.prompt, (row.chosen, row.rejected)
    return _why_not(row)


def _response(row: DatasetRow | None) -> Asked | str:
    if isinstance(row, ResponseRow):
        return "undesirable" if row.label is False else (row.prompt, (row.response,))
    return _why_not(row)


def _why_not(row: DatasetRow | None) -> str:
    return "unreadable" if row is None else "wrong_kind"


def _render(prompt: Prompt, responses: tuple[Written, ...], tokenizer: Any) -> list[str] | str:
    """Return the text of the prompt and those with each response, or why there are none."""
    if _is_empty(prompt):
        return "empty_prompt"
    if tokenizer.chat_template is None:
        return _plain(prompt, responses, tokenizer)
    try:
        return _chat(prompt, responses, tokenizer)
    except (TemplateError, TypeError):  # templates refuse, e.g., two user messages in a row
        return "refused_by_chat_template"


def _is_empty(prompt: Prompt) -> bool:
    if isinstance(prompt, str):
        return not prompt.strip()
    return not any(message.content.strip() for message in prompt)


def _plain(prompt: Prompt, responses: tuple[Written, ...], tokenizer: Any) -> list[str] | str:
    if not isinstance(prompt, str):
        return "no_chat_template"
    end = tokenizer.eos_token or ""
    texts = [plain_text(response) for response in responses]
    if None in texts:
        return "no_chat_template"
    return [prompt, *(f"{prompt}{text}{end}" for text in texts)]


def _chat(prompt: Prompt, responses: tuple[Written, ...], tokenizer: Any) -> list[str]:
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    else:
        messages = [message.model_dump() for message in prompt]

    def render(*response: Written) -> str:
        answer = [
            {"role": "assistant", "content": one} if isinstance(one, str) else one.model_dump()
            for one in response
        ]
        text = tokenizer.apply_chat_template(
            messages + answer, tokenize=False, add_generation_prompt=not response
        )
        return str(text)

    return [render(), *map(render, responses)]


def _split(prompt: list[int], *full: list[int]) -> tuple[list[int], list[list[int]]]:
    columns = zip(prompt, *full, strict=False)
    shared = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, columns))
    return prompt[:shared], [ids[shared:] for ids in full]


def _unusable(prompt: list[int], responses: tuple[list[int], ...], max_length: int | None) -> str | None:
    room = None if max_length is None else max_length - len(prompt)
    if not prompt:
        return "empty_prompt"
    if room is not None and room <= 0:
        return "too_long"
    if not all(responses):
        return "empty_response"
    if len(responses) == 2 and responses[0][:room] == responses[1][:room]:
        return "identical_responses"
    return None
