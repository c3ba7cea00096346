"""Recorded log-probabilities: their forms, and the token ids that they belong to."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["Sampled", "Token", "Unusable", "read_logprobs", "sampled_ids"]

_ID: Final = "token_id:"  # how vLLM writes a token with return_tokens_as_token_ids
_LEAST: Final = -80.0  # nats; servers write -9999 for what they do not know, and exp(88) is infinite
_MOST: Final = 1e-3  # rounding of a certain token


class Unusable(Exception):
    """An episode cannot be trained on, for the reason of this name."""


class Token(NamedTuple):
    """A token that was sampled; its text where it was recorded."""

    text: str | None
    logprob: float


class Sampled(NamedTuple):
    """Token ids that the policy sampled, and their log-probabilities in nats."""

    ids: list[int]
    logprobs: list[float]


def read_logprobs(recorded: Any) -> list[Token]:
    """Read log-probabilities; none recorded give an empty list.

    Known are the chat form of OpenAI (``{"content": [{"token", "logprob"}]}``, or the list alone), the
    completions form (``{"tokens", "token_logprobs"}``) and a list of numbers.

    Raises:
        Unusable: ``bad_logprobs`` when they have another form, or are none of a sampled token.
    """
    if not recorded:
        return []
    if isinstance(recorded, dict) and "token_logprobs" in recorded:
        recorded = _zipped(recorded)
    elif isinstance(recorded, dict):
        recorded = recorded.get("content") or []
    if not isinstance(recorded, list):
        raise Unusable("bad_logprobs")
    return [_token(entry) for entry in recorded]


def sampled_ids(texts: list[str | None], content: str, tokenizer: Any) -> list[int]:
    """Return the ids of a message's sampled tokens; one more than the message has is its end.

    Raises:
        Unusable: ``logprobs_mismatch`` when the tokens are not those of the message. Servers that
            write tokens as ``token_id:N`` never cause it.
    """
    if not texts:
        return []
    if all(text is not None and text.startswith(_ID) for text in texts):
        return [_read_id(text, len(tokenizer)) for text in texts]
    ids: list[int] = tokenizer(content, add_special_tokens=False)["input_ids"]
    if len(texts) == len(ids) + 1:
        ids = [*ids, _end(texts[-1], tokenizer)]
    pairs = zip(texts, ids, strict=False)
    if len(texts) != len(ids) or not all(_is_text_of(text, one, tokenizer) for text, one in pairs):
        raise Unusable("logprobs_mismatch")
    return ids


def _zipped(recorded: dict[str, Any]) -> Any:
    values, texts = recorded["token_logprobs"], recorded.get("tokens")
    if not isinstance(values, list) or not isinstance(texts, list) or len(texts) != len(values):
        raise Unusable("bad_logprobs")
    return [{"token": text, "logprob": value} for text, value in zip(texts, values, strict=True)]


def _token(entry: Any) -> Token:
    text, value = None, entry
    if isinstance(entry, dict):
        text, value = entry.get("token"), entry.get("logprob")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not _LEAST <= value <= _MOST or not isinstance(text, str | None):
        raise Unusable("bad_logprobs")
    return Token(text, float(value))


def _read_id(text: str | None, size: int) -> int:
    number = (text or "").removeprefix(_ID)
    if not number.isdecimal() or int(number) >= size:
        raise Unusable("logprobs_mismatch")
    return int(number)


def _end(text: str | None, tokenizer: Any) -> int:
    found: int | None = tokenizer.convert_tokens_to_ids(text) if text else None
    return tokenizer.eos_token_id if found in {None, tokenizer.unk_token_id} else found


def _is_text_of(text: str | None, token: int, tokenizer: Any) -> bool:
    if text is None or token in tokenizer.all_special_ids:
        return True
    decoded = tokenizer.decode([token])
    # Of a character of several tokens no single one has a text that two tokenizers write alike.
    return "\N{REPLACEMENT CHARACTER}" in decoded or text.strip() == decoded.strip()
