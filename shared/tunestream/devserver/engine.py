"""The served weights and what they say: one base model, adapters and full versions beside it.

Not safe for threads: the server calls it from one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunestream.devserver.bodies import ApiError, ModelCard

__all__ = ["Answer", "Question", "Said", "WeightsEngine"]


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt and how its answer is drawn; ``top`` alternatives are reported for each token."""

    model: str
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A token, its log-probability without temperature, and the alternatives, likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said; the end token is not part of it."""

    text: str
    said: tuple[Said, ...]
    tokens: int
    finish: Literal["stop", "length"]


@dataclass(slots=True)
class _Row:
    question: Question
    generator: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    answer: Answer | None = None


class WeightsEngine:
    """Answers questions with the base model or with any version loaded beside it.

    Runs on the first CUDA device, or on the CPU where there is none.

    Args:
        folder: the base model with its tokenizer.
        name: what the base model is called in requests.
        seed: of the questions that bring no seed of their own.
    """

    def __init__(self, folder: Path, name: str, *, seed: int) -> None:
        self._name = name
        self._root = folder
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = _tokenizer(folder)
        self._words: dict[int, str] = {}
        self._base = self._weights_of(folder)
        self._ends = _ends(self._tokenizer, self._base)
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers = count(1)
        self._adapters: dict[str, str] = {}  # name -> PEFT's name, which may not hold a dot
        self._full: dict[str, Any] = {}
        self._paths: dict[str, str] = {}

    @property
    def context(self) -> int:
        """The longest sequence in tokens, answer included."""
        return int(self._base.config.max_position_embeddings)

    def cards(self) -> list[ModelCard]:
        """Describe what is served, the base model first."""
        base = ModelCard(id=self._name, root=str(self._root))
        loaded = (ModelCard(id=name, root=path, parent=self._name) for name, path in self._paths.items())
        return [base, *loaded]

    def serves(self, name: str) -> bool:
        """Tell whether ``name`` can be asked."""
        return name == self._name or name in self._paths

    def encode(self, messages: list[dict[str, str]]) -> tuple[int, ...]:
        """Return a conversation's token ids, ready for the assistant's answer.

        Raises:
            ApiError: the model has no chat template.
        """
        if self._tokenizer.chat_template is None:
            text = f"{self._name} has no chat template; ask /v1/completions"
            raise ApiError(400, text, kind="BadRequestError", param="messages")
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokenize(self, prompt: str | list[int]) -> tuple[int, ...]:
        """Return a plain prompt's token ids, with what the tokenizer puts before every text.

        Raises:
            ApiError: the prompt is empty, or holds an id that is no token's.
        """
        ids = tuple(self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt)
        if not ids or not all(0 <= token < len(self._tokenizer) for token in ids):
            text = f"a prompt needs tokens, with ids below {len(self._tokenizer)}"
            raise ApiError(400, text, kind="BadRequestError", param="prompt")
        return ids

    def word(self, token: int) -> str:
        """Return a token's text; a part of a character is shown as the replacement character."""
        if token not in self._words:
            self._words[token] = str(self._tokenizer.decode([token]))
        return self._words[token]

    def load(self, name: str, path: str, *, in_place: bool) -> None:
        """Load a version: a PEFT adapter, or a folder of full weights.

        Raises:
            ApiError: the name is taken, or the folder holds no weights that fit the base model.
        """
        self._check_name(name, in_place=in_place)
        folder = Path(path)
        try:
            adapter, full = self._read(folder)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ApiError(
                400, f"{path} does not fit {self._name}: {error}", kind="BadRequestError"
            ) from error
        if name in self._paths:
            self.unload(name)
        if adapter is not None:
            self._adapters[name] = adapter
        else:
            self._full[name] = full
        self._paths[name] = path

    def unload(self, name: str) -> None:
        """Forget a version.

        Raises:
            ApiError: it is not loaded.
        """
        if name not in self._paths:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.", kind="NotFoundError")
        del self._paths[name]
        if name in self._adapters:
            self._base.delete_adapter(self._adapters.pop(name))
        else:
            del self._full[name]

    def answer(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        """Answer all questions, those to one model in one batch."""
        rows = [_Row(question, _generator(question)) for question in questions]
        by_model: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            by_model[row.question.model].append(row)
        for name, members in by_model.items():
            if self.serves(name):
                self._decode(name, members)
        return [row.answer or _unknown(row.question.model) for row in rows]

    def _check_name(self, name: str, *, in_place: bool) -> None:
        if name == self._name:
            text = f"The lora adapter name '{name}' is the name of the base model."
            raise ApiError(400, text, kind="InvalidUserInput")
        if name in self._paths and not in_place:
            text = (
                f"The lora adapter '{name}' has already been loaded. "
                "If you want to load the adapter in place, set 'load_inplace' to True."
            )
            raise ApiError(400, text, kind="InvalidUserInput")

    def _read(self, folder: Path) -> tuple[str | None, Any]:
        if (folder / "adapter_config.json").is_file():
            return self._read_adapter(folder), None
        if (folder / "config.json").is_file():
            return None, self._weights_of(folder)
        raise ApiError(404, f"No adapter found for {folder}", kind="NotFoundError")

    def _read_adapter(self, folder: Path) -> str:
        handle = f"version{next(self._numbers)}"
        loaded = False
        try:
            self._base.load_adapter(folder, adapter_name=handle)
            loaded = True
        finally:
            if not loaded and handle in getattr(self._base, "peft_config", {}):
                self._base.delete_adapter(handle)
        return handle

    def _weights_of(self, folder: Path) -> Any:
        weights: Any = AutoModelForCausalLM.from_pretrained(folder)
        return weights.to(self._device).eval()

    def _weights(self, name: str) -> Any:
        if name in self._full:
            return self._full[name]
        if name in self._adapters:
            self._base.enable_adapters()
            self._base.set_adapter(self._adapters[name])
        elif self._base._hf_peft_config_loaded:  # noqa: SLF001 - there is no public way to ask
            self._base.disable_adapters()
        return self._base.eval()

    @torch.inference_mode()
    def _decode(self, name: str, rows: list[_Row]) -> None:
        """Say one token after the other; rows that have ended leave the batch and its cache."""
        weights = self._weights(name)
        prompts = {"input_ids": [list(row.question.prompt) for row in rows]}
        padded = self._tokenizer.pad(prompts, return_tensors="pt").to(self._device)
        tokens, mask = padded["input_ids"], padded["attention_mask"]
        cached = any(row.question.max_tokens > 1 for row in rows)
        cache: Any = None
        while rows:
            places = (mask.cumsum(-1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
            said = weights(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=cached,
                logits_to_keep=1,
            )
            cache = said.past_key_values
            chosen = self._say(rows, said.logits[:, -1].float().cpu()).to(self._device)
            going = [index for index, row in enumerate(rows) if row.answer is None]
            if going and len(going) < len(rows):
                chosen, mask = chosen[going], mask[going]
                cache.batch_select_indices(torch.tensor(going, device=self._device))
            rows = [rows[index] for index in going]
            tokens, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)

    def _say(self, rows: list[_Row], logits: Tensor) -> Tensor:
        """Choose each row's next token from its logits (rows, vocabulary)."""
        chosen = self._choose(rows, logits)
        logprobs = logits.log_softmax(-1)
        width = min(max(row.question.top for row in rows), logits.shape[-1])
        values, tokens = (part.tolist() for part in logprobs.topk(width))
        for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            top = tuple(zip(tokens[index], values[index], strict=True))[: row.question.top]
            self._advance(row, token, Said(token, float(logprobs[index, token]), top))
        return chosen

    def _choose(self, rows: list[_Row], logits: Tensor) -> Tensor:
        """Sample by the Gumbel trick, which is greedy where the noise is 0."""
        noise = -torch.empty_like(logits).exponential_(generator=self._generator).log()
        scale = torch.ones(len(rows), 1)
        for index, row in enumerate(rows):
            if row.question.temperature == 0.0:
                noise[index] = 0.0
                continue
            scale[index] = row.question.temperature
            if row.generator is not None:
                noise[index] = -torch.empty_like(noise[index]).exponential_(generator=row.generator).log()
        scaled = logits / scale
        if any(row.question.top_p < 1.0 for row in rows):
            mass = torch.tensor([[row.question.top_p] for row in rows])
            scaled = _nucleus(scaled, mass)
        return (scaled + noise).argmax(-1)

    def _advance(self, row: _Row, token: int, said: Said) -> None:
        row.tokens.append(token)
        if token in self._ends:
            row.said += [] if row.said else [said]
            row.answer = self._finished(row, "stop")
            return
        row.said.append(said)
        ends = [at for at in (self._text(row).find(stop) for stop in row.question.stop) if at >= 0]
        if ends:
            row.answer = self._finished(row, "stop", upto=min(ends))
        elif len(row.tokens) >= row.question.max_tokens:
            row.answer = self._finished(row, "length")

    def _text(self, row: _Row) -> str:
        return str(self._tokenizer.decode(row.tokens, skip_special_tokens=True))

    def _finished(self, row: _Row, finish: Literal["stop", "length"], *, upto: int | None = None) -> Answer:
        return Answer(self._text(row)[:upto], tuple(row.said), len(row.tokens), finish)


def _tokenizer(folder: Path) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _ends(tokenizer: Any, weights: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's, and those that the model itself names."""
    named = weights.generation_config.eos_token_id
    found = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return frozenset(token for token in found if token is not None)


def _nucleus(logits: Tensor, mass: Tensor) -> Tensor:
    """Leave of each row (rows, vocabulary) the fewest likeliest tokens that hold ``mass`` (rows, 1)."""
    ordered, tokens = logits.softmax(-1).sort(descending=True)
    beyond = ordered.cumsum(-1) - ordered >= mass
    return logits.masked_fill(beyond.scatter(-1, tokens, beyond), float("-inf"))


def _generator(question: Question) -> torch.Generator | None:
    return None if question.seed is None else torch.Generator().manual_seed(question.seed)


def _unknown(model: str) -> ApiError:
    return ApiError(404, f"The model `{model}` does not exist.", kind="NotFoundError", param="model")
