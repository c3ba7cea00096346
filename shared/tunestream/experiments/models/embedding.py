"""Embeddings of texts by any transformers encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.hub import cached_file

from tunestream.experiments.stages import StageFailed

__all__ = ["Embedder"]

_BATCH: Final = 32  # texts
_LONGEST: Final = 512  # tokens; encoders have no use for more


class Embedder:
    """One encoder and how it pools: as its sentence-transformers files define, or by the mean of all tokens.

    Args:
        name: a folder, or a name on the Hugging Face hub.

    Raises:
        StageFailed: when there is no such model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            self._model: Any = AutoModel.from_pretrained(name, use_safetensors=True)
            self._first_token = _pools_first_token(name)
        except (OSError, ValueError) as error:
            raise StageFailed(
                "embedding_model_missing",
                f"qa.embedding_model: {name!r} is neither a folder with an encoder nor one that this machine "
                f"can get from the Hugging Face hub ({error}); name a folder that is here, or leave out "
                "dot_product and the cosine_similarity tests",
            ) from error
        self._model = self._model.eval().to(self._device)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text; zeros for one that has no token."""
        batches = [self._embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return [vector for batch in batches for vector in batch.tolist()]

    def _embed(self, texts: list[str]) -> torch.Tensor:
        limit = min(_LONGEST, getattr(self._model.config, "max_position_embeddings", _LONGEST))
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        ids, mask = (inputs[name].long().to(self._device) for name in ("input_ids", "attention_mask"))
        if ids.shape[1] == 0:
            return torch.zeros(len(texts), self._model.config.hidden_size)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self._first_token:
            pooled: torch.Tensor = hidden[:, 0] * mask[:, :1]
        else:
            weights = mask.unsqueeze(-1)
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return pooled


def _pools_first_token(name: str) -> bool:
    try:
        path = cached_file(name, "1_Pooling/config.json", _raise_exceptions_for_missing_entries=False)
    except OSError:
        return False
    pooling = json.loads(Path(path).read_text("utf-8")) if path else {}
    return bool(pooling.get("pooling_mode_cls_token") or pooling.get("pooling_mode") == "cls")
