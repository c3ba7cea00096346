"""Answers of a causal language model, a base or an adapter on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft import PeftModel
from transformers import GenerationConfig

from tunestream.config.run.model import ModelConfig
from tunestream.events.messages import Prompt
from tunestream.experiments.models.protocol import Generate, GeneratedAnswer
from tunestream.experiments.requests import ModelReference
from tunestream.experiments.stages import StageFailed
from tunestream.trainers.trl.models import context_length, load_tokenizer, load_weights
from tunestream.trainers.trl.rows import encode

__all__ = ["NEW_TOKENS", "Generator"]

NEW_TOKENS: Final = 256  # of an answer when no length is given, as in the toolkit's example
_LENGTHS: Final = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")


@dataclass(frozen=True, slots=True)
class _Lengths:
    """The fewest and the most tokens of one answer."""

    fewest: int
    most: int


class Generator:
    """Answers prompts with one model, rendered as the trainer renders them.

    Args:
        model: what is loaded; an adapter stays beside its base, as a server has it.

    Attributes:
        notes: what this machine cannot do and was changed.

    Raises:
        StageFailed: when the adapter does not fit its base.
        TrainingFailed: when the base cannot be used.
    """

    def __init__(self, model: ModelReference) -> None:
        self._tokenizer = load_tokenizer(model.base)
        loaded, self.notes = _load(model)
        self._model = _placed(loaded).eval()
        self._context = context_length(self._model)

    @torch.inference_mode()
    def answer(self, call: Generate) -> list[GeneratedAnswer]:
        """Answer the prompts; those whose answers may be equally long are generated together.

        The same call gives the same answers.

        Raises:
            StageFailed: when the options mean nothing to transformers.
        """
        answers = [GeneratedAnswer(error="")] * len(call.prompts)
        groups: dict[_Lengths, list[tuple[int, list[int]]]] = defaultdict(list)
        for index, prompt in enumerate(call.prompts):
            ids = self._encode(prompt)
            lengths = ids if isinstance(ids, str) else self._lengths(len(ids), call.options)
            if isinstance(ids, str) or isinstance(lengths, str):
                answers[index] = GeneratedAnswer(error=str(lengths))
            else:
                groups[lengths].append((index, ids))
        torch.manual_seed(call.seed)
        for lengths, rows in groups.items():
            texts = self._generate([ids for _, ids in rows], lengths, call.options)
            for (index, _), text in zip(rows, texts, strict=True):
                answers[index] = GeneratedAnswer(text=text)
        return answers

    def _encode(self, prompt: Prompt) -> list[int] | str:
        reasons: Counter[str] = Counter()
        for ids, _ in encode([(prompt, ())], self._tokenizer, reasons):
            return ids or "empty_prompt"
        return next(iter(reasons))

    def _lengths(self, prompt: int, options: dict[str, Any]) -> _Lengths | str:
        """Return how long the answer to a prompt of so many tokens may be, or why there can be none."""
        limits = [limit for limit in (self._context, options.get("max_length")) if limit is not None]
        wanted = options.get("max_new_tokens") or (None if options.get("max_length") else NEW_TOKENS)
        most = min([limit - prompt for limit in limits] + ([wanted] if wanted else []))
        if most < 1:
            return f"too_long: the prompt has {prompt} tokens, prompt and answer may have {min(limits)}"
        fewest = max(options.get("min_new_tokens") or 0, (options.get("min_length") or 0) - prompt, 0)
        return _Lengths(min(fewest, most), most)

    def _generate(self, prompts: list[list[int]], lengths: _Lengths, options: dict[str, Any]) -> list[str]:
        inputs = self._pad(prompts)
        config = self._config(lengths, options)
        try:
            sequences = self._model.generate(**inputs, generation_config=config)
        except ValueError as error:  # transformers checks some settings when it generates
            raise StageFailed("bad_inference", f"inference cannot be used: {error}") from error
        answers = sequences[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(answers, skip_special_tokens=True)
        return texts

    def _config(self, lengths: _Lengths, options: dict[str, Any]) -> GenerationConfig:
        values = {name: value for name, value in options.items() if name not in _LENGTHS}
        values |= {"max_new_tokens": lengths.most, "min_new_tokens": lengths.fewest or None}
        try:
            return GenerationConfig(  # type: ignore[no-untyped-call]
                **values, pad_token_id=self._padding, eos_token_id=self._ends
            )
        except (TypeError, ValueError) as error:
            raise StageFailed("bad_inference", f"inference cannot be used: {error}") from error

    @property
    def _ends(self) -> list[int] | None:
        known = self._model.generation_config.eos_token_id
        ends = {*(known if isinstance(known, list) else [known]), self._tokenizer.eos_token_id} - {None}
        return sorted(ends) or None

    @property
    def _padding(self) -> int:
        found = self._tokenizer.pad_token_id
        return int(found if found is not None else (self._ends or [0])[0])

    def _pad(self, prompts: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        """Return ids and mask of shape (prompts, longest), padded on the left, where answers do not begin."""
        longest = max(map(len, prompts))
        ids = [[self._padding] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self._model.device
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }


def _load(model: ModelReference) -> tuple[Any, list[str]]:
    if model.weights is None:
        return load_weights(model.base, model.base.hf_model_ckpt)
    if model.kind == "full":
        return load_weights(_as_trained(model.base), str(model.weights))
    base, notes = load_weights(model.base, model.base.hf_model_ckpt)
    try:
        return PeftModel.from_pretrained(base, str(model.weights)), notes
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise StageFailed(
            "weights_unusable",
            f"the adapter in {model.weights} does not fit {model.base.hf_model_ckpt}: {error}",
        ) from error


def _placed(model: Any) -> Any:
    """Move to the GPU what no ``device_map`` placed there; quantised weights place themselves."""
    if torch.cuda.is_available() and model.device.type == "cpu" and not getattr(model, "is_quantized", False):
        return model.to("cuda")
    return model


def _as_trained(config: ModelConfig) -> ModelConfig:
    """Full weights were trained unquantised, and are used so."""
    return config.model_copy(update={"quantize": False})
