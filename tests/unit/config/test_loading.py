from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.config.examples import RUN, SMALLEST, TOOLKIT
from tools.docs.differences import DIFFERENCES
from tunestream.config.files.errors import ConfigError
from tunestream.config.run.loading import load_offline, load_run, parse_run
from tunestream.config.run.trajectory_builder import ARTTrajectoryBuilderConfig, DPOTrajectoryBuilderConfig
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.trl.config import TRLTrainerConfig

MULTIPLIED = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_run(text, name="run.yaml")
    return str(caught.value).splitlines()


def test_a_run_file_loads_with_the_line_of_each_value() -> None:
    loaded = parse_run(RUN, name="run.yaml")
    assert loaded.notes == ()
    assert loaded.origins["trajectory_builder.turn_timeout"] == "run.yaml:9"
    assert loaded.origins["trainer.training.dpo_args.beta"] == "run.yaml:20"
    assert loaded.origins["serving[0].url"] == "run.yaml:22"
    assert loaded.origins["trainer.lora.bias"] == "default"


def test_every_value_has_an_origin_once() -> None:
    loaded = parse_run(RUN)
    assert "trainer.lora.target_modules" in loaded.origins
    assert "trainer.lora" not in loaded.origins


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "exhaustive_pairs",
            "exhaustive_pair",
            "run.yaml:7: trajectory_builder.exhaustive_pair: unknown key; did you mean 'exhaustive_pairs'?",
        ),
        (
            "beta: 0.5",
            "learning_rate: 1",
            "run.yaml:20: trainer.training.dpo_args.learning_rate: unknown key; it belongs at trainer.tr",
        ),
        ("batching:", "batchin:", "run.yaml:11: batchin: unknown key; did you mean 'batching'?"),
        ("_type: trl", "_type: tlr", "run.yaml:12: trainer: _type 'tlr' is unknown; choose one of 'trl'"),
        ("beta: 0.5", "beta: 0", "run.yaml:20: trainer.training.dpo_args.beta: should be greater than 0"),
        ("30s", "soon", "run.yaml:9: trajectory_builder.turn_timeout: write a length of time"),
        ("run_id: tic-tac-toe\n", "", "run.yaml: run_id: is required"),
        (
            "hf_model_ckpt: models/tiny, ",
            "",
            "run.yaml:16: trainer.model.hf_model_ckpt: is required: a folder",
        ),
        ("all-linear", "5", "run.yaml:17: trainer.lora.target_modules: should be a valid list, or"),
        ("objective: dpo", "objective: grpo", "run.yaml:12: trainer: objective grpo does not fit"),
        (
            "serving: [{url",
            "serving: [{urll",
            "run.yaml:22: serving[0].urll: unknown key; did you mean 'url'?",
        ),
        ("lora: {r", "lora: {2", "run.yaml:17: trainer.lora: the key '2' is not text"),
        ("target_model", "run_id", "run.yaml:2: 'run_id' is given twice"),
        ("target_model: player", "target_model: [", "run.yaml:"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(old: str, new: str, expected: str) -> None:
    assert any(line.startswith(expected) for line in problems(RUN.replace(old, new, 1)))


def test_all_mistakes_are_told_at_once() -> None:
    text = RUN.replace("30s", "soon").replace("beta: 0.5", "bta: 1").replace("r: 8", "r: 0")
    assert len(problems(text)) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: !!python/name:os.system ''", "is not valid YAML"),
        ("a: !!int q", "cannot be read"),
        ("a: &a [*a]", "nested too deeply"),
        ("[" * 1500, "nested too deeply"),
        (MULTIPLIED, "more than 20000 values"),
        ("? [a]\n: b", "is not text"),
    ],
)
def test_what_is_no_run_file_at_all(text: str, expected: str) -> None:
    assert expected in problems(text)[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_run(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"run_id: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_run(tmp_path / "latin.yaml")


def test_merged_and_empty_sections() -> None:
    text = SMALLEST + "batching: &b {window_pairs: 5}\ncurriculum_learning:\nserving: []\n"
    loaded = parse_run(text, name="r.yaml")
    assert not loaded.config.curriculum_learning.enabled
    merged = parse_run(
        "x-run: 1".replace("x-run: 1", text.replace("&b {", "{<<: {seed: 3, window_pairs: 9}, "))
    )
    assert (merged.config.batching.seed, merged.config.batching.window_pairs) == (3, 5)


def test_a_section_may_be_shared_by_alias() -> None:
    text = """
finetuning: {trajectory_builder: second, trainer_adapter: a}
trajectory_builders:
  first: &b {<<: {min_score_diff: 0.5, max_pairs_per_turn: 9}, max_pairs_per_turn: 2}
  second: *b
trainer_adapters: {a: {_type: trl, model: {hf_model_ckpt: m}}}
"""
    builder = parse_run(text, run_id="r").config.trajectory_builder
    assert isinstance(builder, DPOTrajectoryBuilderConfig)
    assert (builder.min_score_diff, builder.max_pairs_per_turn) == (0.5, 2)


def test_an_empty_lora_section_is_the_default_and_null_trains_all_weights() -> None:
    def lora(value: str) -> object:
        text = f"run_id: r\ntrainer:\n  model: {{hf_model_ckpt: m}}\n  lora: {value}\n"
        trainer = parse_run(text).config.trainer
        assert isinstance(trainer, TRLTrainerConfig)
        return trainer.lora

    assert lora("") is not None
    assert lora("null") is None


def test_numbers_that_yaml_reads_as_text() -> None:
    text = RUN.replace("3.0e-3", "3e-3")
    trainer = parse_run(text).config.trainer
    assert isinstance(trainer, TRLTrainerConfig)
    assert trainer.training.training_args.learning_rate == 0.003


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ("num_epochs: 2", "num_epochs"),
        ("enabled: false", "enabled"),
        ("output_dir: elsewhere", "output_dir"),
        ("target_functions: [f]", "target_functions"),
        ("run_configuration: {dataset: d.json}", "run_configuration"),
        ("trajectory_builder: {reward: {name: r}}", "trajectory_builder.reward"),
    ],
)
def test_settings_without_effect_are_refused_unless_default(section: str, path: str) -> None:
    [problem] = problems(SMALLEST + section)
    assert f"{path}: " in problem
    assert "not supported yet" in problem


def test_arguments_of_another_objective_are_refused() -> None:
    arguments = "training: {sft_args: {max_seq_length: 9}, dpo_args: {beta: 0.5}}"
    text = "run_id: r\ntrainer:\n  model: {hf_model_ckpt: m}\n  objective: %s\n  " + arguments
    [problem] = problems(text % "dpo")
    assert "trainer.training.sft_args.max_seq_length: " in problem
    assert "does nothing: the run's objective is dpo" in problem
    [problem] = problems(text % "sft")
    assert "trainer.training.dpo_args.beta: " in problem


@pytest.mark.parametrize("section", ["num_epochs: 1", "enabled: true"])
def test_settings_without_effect_may_stand_at_their_defaults(section: str) -> None:
    parse_run(SMALLEST + section)


def test_the_toolkits_shape() -> None:
    loaded = parse_run(TOOLKIT, name="dpo.yml")
    config = loaded.config
    assert isinstance(config.trajectory_builder, DPOTrajectoryBuilderConfig)
    assert isinstance(config.trainer, NeMoCustomizerTrainerAdapterConfig)
    assert config.run_id == "dpo"
    assert config.target_model == "player"
    assert config.reward_function is not None
    assert config.trajectory_builder.max_pairs_per_turn == 5
    assert (config.trainer.num_runs, config.trainer.max_pairs) == (3, 100)
    assert config.trainer.hf_token_env == "HF_TOKEN"
    assert config.trainer.entity_host == "http://nemo"
    assert loaded.origins["trajectory_builder.max_pairs_per_turn"] == "dpo.yml:18"
    assert loaded.origins["trainer.num_runs"] == "dpo.yml:20"
    assert loaded.origins["run_id"] == "file name"


def test_what_means_nothing_in_the_toolkits_shape_is_a_note() -> None:
    notes = parse_run(TOOLKIT, name="dpo.yml").notes
    starts = [note.split(" ", 2)[1].rstrip(":") for note in notes]
    assert starts == [
        "llms",
        "workflow",
        "trajectory_builders.pairs.custom_step_name",
        "finetuning.num_epochs",
        "finetuning.run_configuration",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "trajectory_builder: pairs",
            "trajectory_builder: pars",
            "'pars' is not in trajectory_builders; did you mean",
        ),
        ("min_score_diff: 0.01", "min_score_diff: -1", "trajectory_builders.pairs.min_score_diff: should be"),
        ("${HF_TOKEN}", "hf_abcdef", "trainer_adapters.customizer_adapter.hf_token: holds a secret"),
        ("namespace: games", "x: y", "trainer_adapters.customizer_adapter.namespace: is required"),
    ],
)
def test_mistakes_in_the_toolkits_shape(old: str, new: str, expected: str) -> None:
    [problem] = problems(TOOLKIT.replace(old, new))
    assert expected in problem
    assert "hf_abcdef" not in problem


def test_the_toolkits_shape_may_train_with_trl() -> None:
    text = """
finetuning: {trajectory_builder: b, trainer_adapter: a}
trajectory_builders: {b: {_type: dpo_traj_builder}, c: {_type: openpipe_art_traj_builder}}
trainer_adapters: {a: {_type: trl, model: {hf_model_ckpt: models/tiny}}}
serving: [{url: "http://localhost:8000"}]
"""
    loaded = parse_run(text, run_id="named")
    assert isinstance(loaded.config.trainer, TRLTrainerConfig)
    assert loaded.notes == ()
    assert (loaded.config.run_id, loaded.origins["run_id"]) == ("named", "argument")
    assert len(loaded.config.serving) == 1


def test_a_lone_component_needs_no_name_and_several_do() -> None:
    builders = "trajectory_builders: {b: {_type: dpo_traj_builder, max_pairs_per_turn: 2}}\n"
    adapters = "trainer_adapters: {a: {_type: trl, model: {hf_model_ckpt: m}}}\n"
    builder = parse_run(builders + adapters, run_id="r").config.trajectory_builder
    assert isinstance(builder, DPOTrajectoryBuilderConfig)
    assert builder.max_pairs_per_turn == 2
    [problem] = problems(builders.replace("{b:", "{c: {}, b:") + adapters)
    assert "is required: name one of trajectory_builders (c, b)" in problem


def test_a_misspelt_native_section_is_not_taken_for_the_toolkits_shape() -> None:
    [problem, *_] = [line for line in problems(SMALLEST.replace("trainer", "trainers")) if "unknown" in line]
    assert "did you mean 'trainer'?" in problem


def offline(tmp_path: Path, text: str, name: str = "run.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_offline_commands_need_only_their_sections(tmp_path: Path) -> None:
    path = offline(
        tmp_path, "trajectory_builder: {_type: openpipe_art_traj_builder}\ntrainer: {nonsense: 1}\n"
    )
    loaded = load_offline(path, "trajectory_builder")
    assert isinstance(loaded.config.trajectory_builder, ARTTrajectoryBuilderConfig)
    assert loaded.origins["trajectory_builder._type"] == f"{path}:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trajectory_builder: {min_score_dif: 1}", "did you mean 'min_score_diff'"),
        ("trajectory_bulder: {min_score_diff: 1}", "did you mean 'trajectory_builder'"),
        (
            "trajectory_builder: {max_pairs_per_turn: 0}",
            "run.yaml:1: trajectory_builder.max_pairs_per_turn: should",
        ),
    ],
)
def test_offline_mistakes_read_as_well(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_offline(offline(tmp_path, text), "trajectory_builder")
    assert expected in str(caught.value)


def test_offline_sections_from_the_toolkits_shape(tmp_path: Path) -> None:
    text = TOOLKIT.replace("${HF_TOKEN}", "hf_pasted").replace("trainer_adapter: customizer_adapter", "x: y")
    loaded = load_offline(offline(tmp_path, text), "trajectory_builder")
    assert isinstance(loaded.config.trajectory_builder, DPOTrajectoryBuilderConfig)
    assert loaded.config.trajectory_builder.max_pairs_per_turn == 5
    assert any("custom_step_name" in note for note in loaded.notes)
    assert any("finetuning.x" in note for note in loaded.notes)


def test_curriculum_alone(tmp_path: Path) -> None:
    path = offline(
        tmp_path, yaml.safe_dump({"curriculum_learning": {"enabled": True, "initial_percentile": 0.5}})
    )
    assert (
        load_offline(path, "curriculum_learning", "batching").config.curriculum_learning.initial_percentile
        == 0.5
    )


def test_each_difference_has_its_reason() -> None:
    assert all(entry.field and entry.reference and entry.ours and entry.why for entry in DIFFERENCES)
