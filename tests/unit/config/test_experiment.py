"""An experiment's file: the toolkit's load unchanged, what is wrong is named, lists make a grid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunestream.config.experiment.data import columns_of
from tunestream.config.experiment.experiment import Config
from tunestream.config.experiment.loading import LoadedExperiment, parse_experiment
from tunestream.config.files.errors import ConfigError
from tunestream.events.training import Objective

SHIPPED = """
save_dir: "./experiment/"
ablation: {use_ablate: false}
data:
  file_type: "huggingface"
  path: "yahma/alpaca-cleaned"
  prompt: >-
    Below is an instruction.
    ### Instruction: {instruction}
    ### Input: {input}
    ### Output:
  prompt_stub: >-
    {output}
  test_size: 25
  train_size: 500
  train_test_split_seed: 42
model: {hf_model_ckpt: "facebook/opt-125m", torch_dtype: "bfloat16", quantize: true,
        bitsandbytes: {load_in_4bit: true, bnb_4bit_compute_dtype: "bfloat16", bnb_4bit_quant_type: "nf4"}}
lora: {task_type: "CAUSAL_LM", r: 32, lora_alpha: 64, lora_dropout: 0.1, target_modules: "all-linear"}
training:
  training_args: {num_train_epochs: 1, per_device_train_batch_size: 4, gradient_accumulation_steps: 4,
                  gradient_checkpointing: true, optim: "paged_adamw_32bit", logging_steps: 1,
                  learning_rate: 2.0e-4, bf16: true, tf32: true, max_grad_norm: 0.3,
                  warmup_ratio: 0.03, lr_scheduler_type: "constant"}
  sft_args: {max_seq_length: 1024}
inference: {max_new_tokens: 256, use_cache: true, do_sample: true, top_p: 0.9, temperature: 0.8}
qa:
  llm_metrics: [jaccard_similarity, dot_product, rouge_score, word_overlap, verb_percent,
                adjective_percent, noun_percent, summary_length]
  test_suite: "examples/test_suite"
"""
LEAST = """
data: {path: rows.jsonl, prompt: "{question}", prompt_stub: "{answer}"}
model: {hf_model_ckpt: some/model}
"""


def load(more: str = "", *, text: str = LEAST) -> LoadedExperiment:
    return parse_experiment(text + more)


def only(more: str = "", *, text: str = LEAST) -> Config:
    (arm,) = load(more, text=text).arms
    return arm.config


def refusal(more: str, *, text: str = LEAST) -> str:
    with pytest.raises(ConfigError) as caught:
        load(more, text=text)
    return str(caught.value)


def test_the_toolkits_shipped_file_means_what_it_says() -> None:
    config = only(text=SHIPPED)
    assert columns_of(config.data.prompt) == ("instruction", "input")
    assert columns_of(config.data.prompt_stub) == ("output",)
    assert (config.data.train_size, config.data.test_size) == (500, 25)
    assert config.model.quantization is not None
    assert config.seeded_training.keywords(Objective.SFT)["max_length"] == 1024
    assert config.qa.test_suite == "examples/test_suite"
    assert config.learns is Objective.SFT


def test_all_sections_but_data_and_model_have_defaults() -> None:
    config = only()
    assert config.lora is not None
    assert (config.data.train_size, config.inference.top_k, config.qa.llm_metrics) == (0.9, 50, [])
    said = refusal("", text="seed: 1\n")
    assert "data: is required" in said
    assert "model: is required" in said


def test_the_shipped_ablation_shape_is_a_grid_although_its_switch_is_off() -> None:
    loaded = load("ablation: {use_ablate: false}\nlora: {r: [16, 32]}\ninference: {top_p: [0.8, 0.9]}\n")
    assert [arm.settings for arm in loaded.arms] == [
        {"lora.r": r, "inference.top_p": p} for r in (16, 32) for p in (0.8, 0.9)
    ]
    assert "lora.r, inference.top_p" in loaded.notes[0]


def test_quantize_false_is_unquantised_whatever_stands_beside_it() -> None:
    block = LEAST.replace("some/model}", "some/model, quantize: false, bitsandbytes: {load_in_4bit: true}}")
    assert only(text=block).model.quantization is None
    bare = LEAST.replace("some/model}", "some/model, quantize: true}")
    assert only(text=bare).model.quantization is not None


def test_every_default_can_be_written_as_json() -> None:
    config = only(text=LEAST.replace("some/model}", "some/model, quantize: true, bitsandbytes: {}}"))
    assert Config.model_validate_json(json.dumps(config.document())) == config
    assert config.document()["model"]["bitsandbytes"]["bnb_4bit_compute_dtype"] == "bfloat16"


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key() -> None:
    said = refusal("training:\n  training_args:\n    learning_rat: 1\n")
    assert said == (
        "experiment:6: training.training_args.learning_rat: unknown key; did you mean 'learning_rate'?"
    )
    assert "it belongs at lora.r" in refusal("training: {r: 8}\n")


def test_a_problem_of_all_arms_is_told_once() -> None:
    said = refusal("lora: {r: [1, 2]}\ntraining: {training_args: {learning_rate: -1}}\n")
    assert said.count("learning_rate") == 1


def test_ids_of_many_experiments_differ() -> None:
    ids = {load(f"seed: {seed}\n").id for seed in range(300)}
    assert len(ids) == 300
    assert load("save_dir: elsewhere\n").id == load().id


def test_loading_one_file_leaves_nothing_for_the_next() -> None:
    load("lora: {target_modules: [[q], [v]]}\n")
    assert [arm.settings for arm in load("lora: {target_modules: [q, v]}\n").arms] == [{}]
    assert [arm.settings for arm in load().arms] == [{}]


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ("lora: {target_modules: [[q], [v, k], all-linear]}", [["q"], ["v", "k"], "all-linear"]),
        ("lora: {layers_to_transform: [[1, 2], 3]}", [[1, 2], 3]),
        ("qa: {llm_metrics: [[word_overlap], []]}", [["word_overlap"], []]),
        ("inference: {bad_words_ids: [[[1]], [[2, 3]]]}", [[[1]], [[2, 3]]]),
        ("inference: {do_sample: [true, false, true]}", [True, False]),
        ("lora: [{r: 4}, null]", [{"r": 4}, None]),
        ("ablation: {seeds: [1, 2]}", [1, 2]),
    ],
)
def test_lists_where_one_value_belongs_are_swept(more: str, settings: list[Any]) -> None:
    assert [list(arm.settings.values()) for arm in load(more).arms] == [[each] for each in settings]


def test_lists_that_belong_there_are_not_swept() -> None:
    text = LEAST + "inference: {force_words_ids: [[1, 2], [[3]]]}\nlora: {modules_to_save: [a, b]}\n"
    assert [arm.settings for arm in parse_experiment(text).arms] == [{}]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("lora: {r: []}", "lora.r: is an empty list"),
        ("save_dir: [a, b]", "save_dir: cannot be swept"),
        ("seed: [1, 2]\nablation: {seeds: [1]}", "keep one"),
        ("objective: grpo", "sft, dpo, kto"),
        ("objective: dpo", "needs data.chosen and data.rejected"),
        ("lora: null\nmodel: {hf_model_ckpt: a, quantize: true}", "lora"),
        ("inference: {endpoint: 'http://me:secret@host/v1'}", "api_key_env"),
    ],
)
def test_what_cannot_be_is_refused(more: str, said: str) -> None:
    text = LEAST.replace("model: {hf_model_ckpt: some/model}\n", "") if "model:" in more else LEAST
    assert said in refusal(more, text=text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("path: a.csv, prompt: '{q}', prompt_stub: '{a} {b}'", "exactly one column"),
        ("path: a.csv, prompt: '{q}'", "prompt needs prompt_stub"),
        ("path: a.csv, prompt: '{q[0]}', prompt_stub: '{a}'", "only names of columns"),
        ("path: a.csv, prompt: '{q', prompt_stub: '{a}'", "prompt"),
        ("path: a.csv, messages: m, prompt: '{q}', prompt_stub: '{a}'", "either prompt"),
        ("path: a.csv, prompt: '{q}', chosen: '{a}'", "go together"),
        ("prompt: '{q}', prompt_stub: '{a}'", "either path, or the section 'stream'"),
        ("path: a.csv, prompt: '{q}', prompt_stub: '{a}', test_size: 0.2", "more than the whole"),
        ("path: a.csv, prompt: '{q}', prompt_stub: '{a}', test_size: 2.5", "whole number of rows"),
        ("path: a.csv, prompt: '{q}', prompt_stub: '{a}', group_by: a, stratify_by: b", "exclude each other"),
        ("stream: {run_id: r}, prompt: '{q}'", "prompts and answers of their own"),
        ("stream: {run_id: r, start: 4, end: 4}", "must lie behind"),
    ],
)
def test_data_that_cannot_be_examples_are_refused(data: str, said: str) -> None:
    assert said in refusal("", text=f"data: {{{data}}}\nmodel: {{hf_model_ckpt: m}}\n")


def test_columns_may_have_any_name() -> None:
    assert columns_of("{{x}} {first name} {a.b} {first name}") == ("first name", "a.b")


def test_one_seed_serves_training_and_generation_unless_the_training_has_its_own() -> None:
    assert only("seed: 7\n").seeded_training.training_args.seed == 7
    own = only("seed: 7\ntraining: {training_args: {seed: 3}}\n")
    assert own.seeded_training.training_args.seed == 3
    assert own.data.train_test_split_seed == 42


OPEN = (
    "data: {path: a.jsonl%s}\nmodel: {hf_model_ckpt: m}\n"
    "training: {training_args: {per_device_train_batch_size: 2}}\n"
)


@pytest.mark.parametrize(
    ("form", "learns"),
    [("", "sft"), (", format: alpaca", "sft"), (", format: preference", "dpo"), (", format: kto", "kto")],
)
def test_a_format_decides_what_is_learnt(form: str, learns: str) -> None:
    assert only(text=OPEN % form).learns == learns
    assert only("objective: sft\n", text=OPEN % form).learns is Objective.SFT


def test_an_objective_needs_a_format_with_both_answers() -> None:
    assert only("objective: dpo\n", text=OPEN % "").learns is Objective.DPO
    assert "needs data.chosen" in refusal("objective: dpo\n", text=OPEN % ", format: kto")
    assert "has its own columns" in refusal("", text=OPEN % ", format: kto, prompt: '{q}'")


def test_a_format_that_is_not_given_is_no_part_of_a_document() -> None:
    assert "format" not in only().document()["data"]
    assert only(text=OPEN % ", format: kto").document()["data"]["format"] == "kto"


def test_two_answers_mean_preferences() -> None:
    text = LEAST.replace('prompt_stub: "{answer}"', "chosen: '{a}', rejected: '{b}'")
    assert only(text=text).learns is Objective.DPO
    assert only("objective: sft\n", text=text).learns is Objective.SFT
