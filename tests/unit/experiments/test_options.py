"""Every field of the inference section has an effect, or a refusal that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tunestream.config.experiment.experiment import ExperimentInferenceConfig
from tunestream.config.run.model import InferenceConfig
from tunestream.experiments.inference import generation_options, idle_settings, request_options
from tunestream.experiments.inference.options import REMOVED, REQUEST_NAMES
from tunestream.experiments.stages import StageFailed

# Each field away from its default.
VALUES: dict[str, Any] = {
    "max_length": 40,
    "max_new_tokens": 9,
    "min_length": 3,
    "min_new_tokens": 2,
    "early_stopping": "never",
    "max_time": 12.5,
    "do_sample": True,
    "num_beams": 3,
    "num_beam_groups": 3,
    "penalty_alpha": 0.6,
    "use_cache": False,
    "temperature": 0.7,
    "top_k": 7,
    "top_p": 0.8,
    "typical_p": 0.9,
    "epsilon_cutoff": 3e-4,
    "eta_cutoff": 4e-4,
    "diversity_penalty": 0.5,
    "repetition_penalty": 1.2,
    "encoder_repetition_penalty": 1.1,
    "length_penalty": 0.9,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[5]],
    "force_words_ids": [[6]],
    "renormalize_logits": True,
}


def test_no_field_is_forgotten() -> None:
    assert VALUES.keys() == InferenceConfig.model_fields.keys()


@pytest.mark.parametrize("name", sorted(VALUES.keys() - REMOVED.keys()))
def test_a_field_reaches_generation(name: str) -> None:
    assert generation_options(InferenceConfig(**{name: VALUES[name]}))[name] == VALUES[name]


@pytest.mark.parametrize("name", sorted(REMOVED))
def test_a_field_that_transformers_has_dropped_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(StageFailed, match=rf"inference\.{name}: transformers 5 has no .*; (use|ask)"):
        generation_options(InferenceConfig(**{name: VALUES[name]}))
    with pytest.raises(StageFailed, match=rf"inference\.{name}: transformers 5 has no"):
        request_options(ExperimentInferenceConfig(**{name: VALUES[name]}))


def test_all_refused_fields_are_named_at_once() -> None:
    config = ExperimentInferenceConfig(max_length=40, num_beams=2, penalty_alpha=0.5)
    with pytest.raises(StageFailed) as failure:
        request_options(config)
    assert all(
        f"inference.{name}" in failure.value.message for name in ("max_length", "num_beams", "penalty_alpha")
    )
    assert "set max_new_tokens" in failure.value.message


@pytest.mark.parametrize("name", sorted(VALUES.keys() - REMOVED.keys()))
def test_a_field_reaches_a_server_or_is_refused(name: str) -> None:
    config = ExperimentInferenceConfig(**{"do_sample": True, name: VALUES[name]})
    if name in REQUEST_NAMES and name != "do_sample":
        assert request_options(config)[REQUEST_NAMES[name]] == VALUES[name]
    elif name != "do_sample":
        with pytest.raises(
            StageFailed, match=f"inference.{name}: cannot be asked of an OpenAI-compatible server"
        ):
            request_options(config)


def test_what_is_at_its_default_is_left_to_the_server() -> None:
    assert request_options(ExperimentInferenceConfig()) == {"temperature": 0.0}
    assert request_options(ExperimentInferenceConfig(do_sample=True)) == {"temperature": 1.0}
    assert request_options(ExperimentInferenceConfig(top_p=0.5)) == {"temperature": 0.0}  # greedy


def test_sampling_at_temperature_0_is_greedy() -> None:
    values = generation_options(InferenceConfig(do_sample=True, temperature=0.0))
    assert values["do_sample"] is False


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens 5 is above max_new_tokens 4"),
        ({"early_stopping": "sometimes"}, "early_stopping must be true, false or never, not 'sometimes'"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StageFailed, match=message):
        generation_options(InferenceConfig(**settings))


def test_settings_without_effect_are_told() -> None:
    notes = idle_settings(InferenceConfig(temperature=0.5, length_penalty=2.0))
    assert notes == [
        "inference.temperature does nothing without do_sample: true",
        "inference.length_penalty does nothing without num_beams above 1",
    ]
    assert idle_settings(InferenceConfig(temperature=0.5, do_sample=True)) == []
