"""What an inference section asks of transformers, and of a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tunestream.config.experiment.experiment import ExperimentInferenceConfig
from tunestream.config.run.model import InferenceConfig
from tunestream.experiments.stages import StageFailed

__all__ = ["REMOVED", "REQUEST_NAMES", "generation_options", "idle_settings", "request_options"]

REMOVED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "num_beam_groups": "transformers 5 has no group beam search; use num_beams alone, or do_sample",
        "diversity_penalty": "transformers 5 has no group beam search; use num_beams alone, or do_sample",
        "penalty_alpha": "transformers 5 has no contrastive search; use do_sample with top_k",
        "force_words_ids": "transformers 5 has no constrained beam search; ask for the words in the prompt",
    }
)
"""Field of the toolkit → why nothing acts upon it any more, and what to do."""

REQUEST_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_new_tokens": "max_tokens",
        "do_sample": "temperature",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "min_new_tokens": "min_tokens",
        "repetition_penalty": "repetition_penalty",
    }
)
"""Field → its name in a chat completion request.

``do_sample: false`` is temperature 0. The last three are not OpenAI's but vLLM's; a server that does not
know them refuses the request with their name.
"""

_SAMPLING: Final = ("temperature", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_BEAMS: Final = ("early_stopping", "length_penalty")
_FIELDS: Final = tuple(InferenceConfig.model_fields)
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(InferenceConfig().model_dump())


def generation_options(config: InferenceConfig) -> dict[str, Any]:
    """Return the arguments of transformers' GenerationConfig.

    Sampling at temperature 0 is greedy, as it is everywhere but in transformers, which refuses it.

    Raises:
        StageFailed: naming every field that today's transformers cannot act upon.
    """
    _refuse(f"{name}: {REMOVED[name]}" for name in _changed(config) if name in REMOVED)
    if config.min_new_tokens and config.max_new_tokens and config.min_new_tokens > config.max_new_tokens:
        _refuse([f"min_new_tokens {config.min_new_tokens} is above max_new_tokens {config.max_new_tokens}"])
    if isinstance(config.early_stopping, str) and config.early_stopping != "never":
        _refuse([f"early_stopping must be true, false or never, not {config.early_stopping!r}"])
    values = {name: getattr(config, name) for name in _FIELDS if name not in REMOVED}
    if config.do_sample and config.temperature == 0.0:
        values |= {"do_sample": False, "temperature": 1.0}
    return values


def request_options(config: ExperimentInferenceConfig) -> dict[str, Any]:
    """Return the fields of a chat completion request, without model, messages and seed.

    What is at its default is left to the server, but for the temperature.

    Raises:
        StageFailed: naming every field that a server cannot be asked for.
    """
    changed = list(_changed(config))
    _refuse(
        f"{name}: {REMOVED.get(name, 'cannot be asked of an OpenAI-compatible server')}"
        + ("; set max_new_tokens" if name == "max_length" else "")
        for name in changed
        if name not in REQUEST_NAMES
    )
    sent = [name for name in changed if config.do_sample or name not in _SAMPLING]
    values = {REQUEST_NAMES[name]: getattr(config, name) for name in sent}
    return values | {"temperature": config.temperature if config.do_sample else 0.0}


def idle_settings(config: InferenceConfig) -> list[str]:
    """Return a note for each setting that does nothing beside the others."""
    notes = [] if config.do_sample else list(_idle(config, _SAMPLING, "do_sample: true"))
    return notes if config.num_beams > 1 else [*notes, *_idle(config, _BEAMS, "num_beams above 1")]


def _idle(config: InferenceConfig, names: tuple[str, ...], needs: str) -> Iterator[str]:
    for name in _changed(config):
        if name in names:
            yield f"inference.{name} does nothing without {needs}"


def _changed(config: InferenceConfig) -> Iterator[str]:
    """Yield the fields away from their defaults."""
    return (name for name in _FIELDS if getattr(config, name) != _DEFAULTS[name])


def _refuse(problems: Any) -> None:
    found = list(dict.fromkeys(problems))
    if found:
        raise StageFailed("bad_inference", "; ".join(f"inference.{problem}" for problem in found))
