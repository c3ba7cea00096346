"""From recorded episodes to token ids, with the log-probabilities of the tokens that the policy generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from tunestream.events.dataset import EpisodeRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.trainers.collection_rows import SHOWN_AS
from tunestream.trainers.trl.examples import Episode, Marked
from tunestream.trainers.trl.logprobs import Sampled, Unusable, read_logprobs, sampled_ids

__all__ = ["demonstrate", "replay"]


class _Turn(NamedTuple):
    """What the policy read since its last message, its message, and what the template puts after it."""

    context: str
    item: EpisodeItem
    content: str
    tail: str


def replay(row: EpisodeRow, tokenizer: Any, max_length: int | None, advantage: float) -> Episode | str:
    """Return an episode as it was played, or why it cannot be trained on.

    Messages of the assistant without log-probabilities are read, not trained on. What came after the
    assistant's last message is left out.
    """
    try:
        turns = [(turn, _sampled(turn, tokenizer)) for turn in _turns(row.items, tokenizer)]
    except Unusable as reason:
        return str(reason)
    if not any(sampled.ids for _, sampled in turns):
        return "no_logprobs"
    episode = Episode([], [], [], advantage)
    for turn, sampled in turns:
        _extend(episode, _ids(turn.context, tokenizer))
        if sampled.ids:
            _extend(episode, sampled.ids, sampled.logprobs)
            _extend(episode, _rest(turn.tail, sampled.ids[-1], tokenizer))
        else:
            _extend(episode, _ids(turn.content + turn.tail, tokenizer))
    return _cut(episode, max_length)


def demonstrate(row: EpisodeRow, tokenizer: Any, max_length: int | None) -> Marked | str:
    """Return an episode with all text of the assistant marked, or why it cannot be trained on."""
    marked = Marked([], [])
    try:
        for turn in _turns(row.items, tokenizer):
            for text, mark in ((turn.context, 0), (turn.content + turn.tail, 1)):
                ids = _ids(text, tokenizer)
                marked.input_ids.extend(ids)
                marked.mask.extend([mark] * len(ids))
    except Unusable as reason:
        return str(reason)
    if not any(marked.mask):
        return "empty_response"
    cut = Marked(marked.input_ids[:max_length], marked.mask[:max_length])
    return cut if any(cut.mask) else "too_long"


def _turns(items: Sequence[EpisodeItem], tokenizer: Any) -> Iterator[_Turn]:
    """Yield the assistant's turns.

    Raises:
        Unusable: when the template cannot show the episode as the policy saw it.
    """
    if tokenizer.chat_template is None:
        raise Unusable("no_chat_template")
    seen = ""
    for count, item in enumerate(items):
        if item.role is not EpisodeItemRole.ASSISTANT:
            continue
        if count == 0:
            raise Unusable("empty_prompt")
        asked = _render(items[:count], tokenizer, generation=True)
        answered = _render(items[: count + 1], tokenizer, generation=False)
        if not asked.startswith(seen) or not answered.startswith(asked):
            raise Unusable("rewritten_by_chat_template")
        lead, content, tail = _find(item.content, answered[len(asked) :])
        yield _Turn(asked[len(seen) :] + lead, item, content, tail)
        seen = answered


def _find(content: str, answer: str) -> tuple[str, str, str]:
    """Split what the template made of a message: white space before it, the message, what follows."""
    shown = content if content in answer else content.strip()
    if not shown:
        return "", "", answer
    lead, found, tail = answer.partition(shown)
    if not found or lead.strip():
        raise Unusable("rewritten_by_chat_template")
    return lead, shown, tail


def _render(items: Sequence[EpisodeItem], tokenizer: Any, *, generation: bool) -> str:
    messages = [{"role": SHOWN_AS.get(item.role, item.role.value), "content": item.content} for item in items]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))
    except TemplateError as error:
        raise Unusable("refused_by_chat_template") from error


def _sampled(turn: _Turn, tokenizer: Any) -> Sampled:
    tokens = read_logprobs(turn.item.logprobs)
    ids = sampled_ids([token.text for token in tokens], turn.content, tokenizer)
    return Sampled(ids, [token.logprob for token in tokens])


def _extend(episode: Episode, ids: list[int], logprobs: list[float] | None = None) -> None:
    episode.input_ids.extend(ids)
    episode.mask.extend([0 if logprobs is None else 1] * len(ids))
    episode.old_logps.extend(logprobs or [0.0] * len(ids))


def _cut(episode: Episode, limit: int | None) -> Episode | str:
    ids, mask, logps = episode.input_ids[:limit], episode.mask[:limit], episode.old_logps[:limit]
    return Episode(ids, mask, logps, episode.advantage) if any(mask) else "too_long"


def _rest(tail: str, last: int, tokenizer: Any) -> list[int]:
    """Return what the template adds to a message, without the end token that was sampled already."""
    ids = _ids(tail, tokenizer)
    return ids[1:] if ids[:1] == [last] else ids


def _ids(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids
