from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.config.examples import RUN, SMALLEST
from tunestream.config.nat.finetune import FinetuneConfig, FinetuneRunConfig
from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.durations import milliseconds
from tunestream.config.run.loading import parse_run
from tunestream.config.run.model import BitsAndBytesConfig, ModelConfig
from tunestream.config.run.run import RunConfig, json_schema
from tunestream.config.run.serving import ServingConfig
from tunestream.config.run.trainers import TrainerReading
from tunestream.config.run.training import TrainingConfig
from tunestream.config.run.trajectory_builder import ARTTrajectoryBuilderConfig, DPOTrajectoryBuilderConfig
from tunestream.events.runs import TURN_FORMAT, RunRecord
from tunestream.events.training import Objective
from tunestream.trainers.trl.config import TRLTrainerConfig

KEYS_OF_FORMAT_2 = Path(__file__).with_name("keys_of_format_2.txt")
RECORDED = Path(__file__).parents[3] / "docs/wire/examples/runs/tunestream.run.v1.json"


def run(**sections: Any) -> RunConfig:
    smallest = {"run_id": "r", "trainer": {"model": {"hf_model_ckpt": "m"}}}
    return RunConfig.model_validate(smallest | sections)


def test_the_smallest_run_works_by_defaults() -> None:
    config = parse_run(SMALLEST).config
    assert isinstance(config.trainer, TRLTrainerConfig)
    assert isinstance(config.trajectory_builder, DPOTrajectoryBuilderConfig)
    assert config.trainer.lora is not None
    assert config.objective is Objective.DPO
    assert config.served_name == "small"
    assert (config.batching.window_pairs, config.batching.min_batch_pairs) == (384, 32)
    assert milliseconds(config.batching.flush_after) == 60_000


def test_the_harness_defaults_of_pairs() -> None:
    builder = DPOTrajectoryBuilderConfig()
    assert builder.ttc_step_name == "dpo_candidate_move"
    assert builder.exhaustive_pairs
    assert builder.reward_from_score_diff
    assert builder.require_multiple_candidates
    assert builder.min_score_diff == 0.0
    assert builder.max_pairs_per_turn is None
    assert builder.type == "dpo_traj_builder"
    assert milliseconds(builder.turn_timeout) == 30_000
    assert milliseconds(builder.turn_memory) == 600_000
    assert builder.max_candidates_per_turn == 256


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (DPOTrajectoryBuilderConfig, {"min_score_diff": -0.1}),
        (DPOTrajectoryBuilderConfig, {"min_score_diff": float("nan")}),
        (DPOTrajectoryBuilderConfig, {"min_score_diff": float("inf")}),
        (DPOTrajectoryBuilderConfig, {"max_pairs_per_turn": 0}),
        (DPOTrajectoryBuilderConfig, {"custom_step_name": "x"}),
        (ARTTrajectoryBuilderConfig, {"num_generations": 0}),
        (CurriculumLearningConfig, {"initial_percentile": 0}),
        (CurriculumLearningConfig, {"increment_percentile": 1.1}),
        (CurriculumLearningConfig, {"expansion_interval": 0}),
        (CurriculumLearningConfig, {"min_reward_diff": -3}),
        (CurriculumLearningConfig, {"random_subsample": 0}),
        (CurriculumLearningConfig, {"random_subsample": 5}),
        (FinetuneRunConfig, {"validation_interval": 0}),
        (FinetuneConfig, {"num_epochs": 0}),
        (FinetuneConfig, {"enabled": True, "trainer": "t"}),
        (ServingConfig, {"url": "localhost:8000"}),
        (ServingConfig, {"url": "http://user:word@host"}),
        (ServingConfig, {"url": "http://host:8000/v1/"}),
        (ServingConfig, {"url": "http://host", "adapter_root": "adapters"}),
        (ServingConfig, {"url": "http://host", "kind": "tgi"}),
        (ServingConfig, {"url": "http://host", "api_key_env": "sk-proj-abc"}),
        (ServingConfig, {"url": "http://host", "api_key_env": "hf_AbCdEf"}),
        (ServingConfig, {"url": "http://host", "api_key_env": "AKIAABCDEFGHIJKLMNOP"}),
    ],
)
def test_out_of_bounds(section: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section(**values)


def test_quantize_false_means_unquantised() -> None:
    assert ModelConfig(hf_model_ckpt="m", bitsandbytes={"load_in_4bit": True}).quantization is None
    assert ModelConfig(hf_model_ckpt="m", quantize=True).quantization is not None


def test_device_map_none_is_no_map() -> None:
    assert ModelConfig(hf_model_ckpt="m", device_map="None").device_map is None


@pytest.mark.parametrize(
    ("builder", "objective", "fits"),
    [
        ("dpo_traj_builder", None, Objective.DPO),
        ("dpo_traj_builder", "dpo", Objective.DPO),
        ("openpipe_art_traj_builder", None, Objective.GRPO),
        ("dpo_traj_builder", "grpo", None),
        ("openpipe_art_traj_builder", "dpo", None),
    ],
)
def test_the_objective_follows_the_trajectory_builder(
    builder: str, objective: str | None, fits: Objective | None
) -> None:
    trainer = {"model": {"hf_model_ckpt": "m"}, "objective": objective}
    if fits is None:
        with pytest.raises(ValidationError, match="does not fit"):
            run(trajectory_builder={"_type": builder}, trainer=trainer)
    else:
        assert run(trajectory_builder={"_type": builder}, trainer=trainer).objective is fits


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "-x", ".x", "x" * 129, "a b", "ä"])
def test_a_run_id_can_name_a_folder(run_id: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        run(run_id=run_id)


def test_keywords_are_what_trl_takes() -> None:
    trainer = parse_run(RUN).config.trainer
    assert isinstance(trainer, TRLTrainerConfig)
    keywords = trainer.training.keywords(Objective.DPO)
    assert keywords["warmup_steps"] == 0.03
    assert keywords["max_length"] == 1024
    assert keywords["beta"] == 0.5
    assert "warmup_ratio" not in keywords


def test_the_length_of_supervised_rows_has_todays_name() -> None:
    training = TrainingConfig.model_validate({"sft_args": {"max_seq_length": 7}})
    keywords = training.keywords(Objective.SFT)
    assert keywords["max_length"] == 7
    assert "max_seq_length" not in keywords
    assert "beta" not in keywords
    assert training.length_limit(Objective.SFT) == ("sft_args.max_seq_length", 7)


@pytest.mark.parametrize("objective", list(Objective))
def test_every_objective_has_its_arguments(objective: Objective) -> None:
    assert TrainingConfig().keywords(objective)["learning_rate"] == 2e-4


def test_eight_bits_switch_four_off() -> None:
    eight = BitsAndBytesConfig.model_validate({"load_in_8bit": True})
    assert (eight.load_in_8bit, eight.load_in_4bit) == (True, False)
    assert BitsAndBytesConfig().load_in_4bit
    assert BitsAndBytesConfig.model_validate_json(eight.model_dump_json()) == eight


@pytest.mark.parametrize("both", [True, False])
def test_weights_have_four_bits_or_eight(both: bool) -> None:
    with pytest.raises(ValidationError, match="one of load_in_8bit and load_in_4bit"):
        BitsAndBytesConfig(load_in_8bit=both, load_in_4bit=both)


def test_quantised_weights_are_not_all_trained() -> None:
    with pytest.raises(ValidationError, match="set lora"):
        run(trainer={"model": {"hf_model_ckpt": "m", "quantize": True}, "lora": None})


@pytest.mark.parametrize(
    ("size", "loss", "fits"), [(1, "kto", False), (2, "kto", True), (1, "apo_zero_unpaired", True)]
)
def test_kto_needs_neighbours(size: int, loss: str, fits: bool) -> None:
    trainer = {
        "model": {"hf_model_ckpt": "m"},
        "objective": "kto",
        "training": {
            "training_args": {"per_device_train_batch_size": size},
            "kto_args": {"loss_type": loss},
        },
    }
    if fits:
        assert run(trainer=trainer).objective is Objective.KTO
    else:
        with pytest.raises(ValidationError, match="per_device_train_batch_size"):
            run(trainer=trainer)


def test_exo_needs_smoothing() -> None:
    with pytest.raises(ValidationError, match="label_smoothing"):
        TrainingConfig.model_validate({"dpo_args": {"loss_type": ["sigmoid", "exo_pair"]}})


def test_two_precisions_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude"):
        run(trainer={"model": {"hf_model_ckpt": "m"}, "training": {"training_args": {"bf16": 1, "fp16": 1}}})


def test_loss_weights_are_one_per_loss() -> None:
    arguments = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}
    with pytest.raises(ValidationError, match="one weight for each"):
        run(trainer={"model": {"hf_model_ckpt": "m"}, "training": {"dpo_args": arguments}})


@pytest.mark.parametrize("key", ["api_key", "hf_token", "password", "SECRET"])
def test_free_form_sections_refuse_secrets(key: str) -> None:
    backend = {"ip": "h", "port": 1, "server_config": {"inner": [{key: "word"}]}}
    with pytest.raises(ValidationError, match="holds a secret") as caught:
        run(
            trajectory_builder={"_type": "openpipe_art_traj_builder"},
            trainer={"_type": "openpipe_art_trainer_adapter", "backend": backend},
        )
    assert "environment" in caught.value.errors()[0]["msg"]


# --- digest and record -------------------------------------------------------------------------


def _url(server: dict[str, str]) -> str:
    return server["url"]


names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
shares = st.floats(min_value=0.001, max_value=1.0)
servers = st.lists(
    st.fixed_dictionaries({"url": st.sampled_from(["http://localhost:8000", "https://b/x"])}),
    max_size=2,
    unique_by=_url,
)
documents = st.fixed_dictionaries(
    {
        "run_id": names,
        "trainer": st.fixed_dictionaries({"model": st.fixed_dictionaries({"hf_model_ckpt": names})}),
    },
    optional={
        "target_model": names,
        "trajectory_builder": st.fixed_dictionaries(
            {},
            optional={
                "_type": st.just("dpo_traj_builder"),
                "exhaustive_pairs": st.booleans(),
                "min_score_diff": st.floats(min_value=0.0, max_value=1e6),
                "max_pairs_per_turn": st.none() | st.integers(1, 100),
                "turn_timeout": st.integers(1, 10**6) | st.sampled_from(["30s", "10m", "250ms"]),
            },
        ),
        "curriculum_learning": st.fixed_dictionaries(
            {}, optional={"enabled": st.booleans(), "initial_percentile": shares, "random_subsample": shares}
        ),
        "serving": servers,
    },
)


def shuffled(value: Any, draw: st.DataObject) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: shuffled(value[key], draw) for key in draw.draw(st.permutations(list(value)))}


@given(documents, st.data())
def test_the_digest_does_not_depend_on_how_a_file_is_written(
    document: dict[str, Any], data: st.DataObject
) -> None:
    config = RunConfig.model_validate(document)
    assert RunConfig.model_validate(shuffled(document, data)).digest == config.digest
    assert RunConfig.model_validate(config.document()).digest == config.digest
    assert parse_run(yaml.safe_dump(document)).config.digest == config.digest
    assert len(config.digest) == 32


@given(documents)
def test_a_record_reads_back(document: dict[str, Any]) -> None:
    config = RunConfig.model_validate(document)
    record = config.to_record()
    assert type(record).model_validate_json(record.to_json()) == record
    assert (record.run_id, record.digest) == (config.run_id, config.digest)
    assert RunConfig.from_record(record, trainer="installed") == config
    assert RunConfig.from_record(record).to_record().to_json() == record.to_json(), "opaque, to the byte"


@pytest.mark.parametrize("trainer", ["opaque", "installed"])
def test_a_recorded_run_keeps_its_digest_and_its_bytes(trainer: TrainerReading) -> None:
    body = json.loads(RECORDED.read_bytes())["body"]
    record = RunRecord.model_validate(body)
    config = RunConfig.from_record(record, trainer=trainer)
    assert config.digest == "a36b57b9bb15959733caa5bc7ccac30e"
    assert json.loads(config.to_record().to_json()) == body
    assert config.to_record().to_json() == record.to_json()


NEMO = """{_type: nemo_customizer_trainer_adapter, entity_host: "http://h/", datastore_host: h, namespace: n,
  customization_config: c, max_queued: 3}"""


@pytest.mark.parametrize(
    ("trainer", "digest"),
    [
        ("{model: {hf_model_ckpt: m}}", "bbeb560ac32a0ad4eb478be5670a940a"),
        (NEMO, "f979745af1cf1acbe8fbd3ded9ad3f68"),
    ],
)
def test_the_digests_of_earlier_releases(trainer: str, digest: str) -> None:
    assert parse_run(f"run_id: r\ntrainer: {trainer}\n").config.digest == digest


TOOLKIT_SETTINGS = """finetuning:
  enabled: true
  trajectory_builder: b
  trainer: t
  trainer_adapter: a
  {setting}
trajectory_builders: {{b: {{_type: dpo_traj_builder}}}}
trainers: {{t: {{_type: dpo_trainer}}}}
trainer_adapters: {{a: {{_type: nemo_customizer_trainer_adapter, entity_host: h, datastore_host: h,
  namespace: n, customization_config: c}}}}
"""


@pytest.mark.parametrize(
    ("setting", "digest"),
    [
        ("num_epochs: 20", "7fac57e4b6640805cfe53500abd54188"),
        ("target_functions: [f, g]", "f1363ff74c101dbde222c4eb0fc2771e"),
        ("output_dir: ./out/x/", "355d3823ca1cfa190cdeaf25e8e31603"),
        (
            "run_configuration: {config_file: c.yml, dataset: d.json, override: [[a, b]]}",
            "ace779b6f35bcb015a07dd42d5b74678",
        ),
    ],
)
def test_the_toolkits_settings_that_do_nothing_stay_in_the_digest_and_the_record(
    setting: str, digest: str
) -> None:
    loaded = parse_run(TOOLKIT_SETTINGS.format(setting=setting), run_id="r")
    assert any("not supported yet" in note for note in loaded.notes)
    record = loaded.config.to_record()
    assert loaded.config.digest == record.digest == digest
    assert record.config[setting.partition(":")[0]] != run().to_record().config[setting.partition(":")[0]]
    assert RunConfig.from_record(record).to_record().to_json() == record.to_json()


def test_defaults_written_out_do_not_change_the_digest_and_other_values_do() -> None:
    written = run(batching={"max_wait": 60}, trajectory_builder={"_type": "dpo_traj_builder"})
    assert written.digest == run(batching={"max_wait": "1m"}).digest == run().digest
    assert run(batching={"max_wait": "61s"}).digest != run().digest


def test_the_digest_does_not_depend_on_the_order_of_free_form_keys() -> None:
    def digest(arguments: dict[str, int]) -> str:
        trainer = {
            "_type": "openpipe_art_trainer_adapter",
            "backend": {"ip": "h", "port": 1, "engine_args": arguments},
        }
        return run(trajectory_builder={"_type": "openpipe_art_traj_builder"}, trainer=trainer).digest

    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_the_schema_accepts_what_the_models_accept() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(RUN), schema)
    jsonschema.validate(json.loads(json.dumps(parse_run(RUN).config.document())), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(RUN) | {"batchin": {}}, schema)


def test_a_record_of_an_earlier_version_keeps_its_digest() -> None:
    record = parse_run(RUN).config.to_record()
    earlier = record.model_copy(
        update={"digest": "earlier", "config": record.config | {"run_configuration": {"dataset": "d.json"}}}
    )
    config = RunConfig.from_record(earlier)
    assert config.digest == "earlier"
    assert config.document() == parse_run(RUN).config.document()


def test_settings_that_do_nothing_stay_in_the_record_by_default_at_their_defaults() -> None:
    values = parse_run(RUN).config.to_record().config
    assert (values["enabled"], values["num_epochs"], values["trainer"]["reward"]) == (True, 1, None)
    assert "enabled" not in parse_run(RUN + "enabled: true\n").config.document()


def keys(value: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of a document's leaves, an empty section being one."""
    return {
        key
        for name, inner in value.items()
        for key in (keys(inner, f"{path}{name}.") if isinstance(inner, dict) and inner else {path + name})
    }


@pytest.mark.parametrize(
    ("builder", "objective"), [("dpo_traj_builder", "dpo"), ("openpipe_art_traj_builder", "grpo")]
)
def test_a_record_holds_no_setting_that_the_release_before_refuses(builder: str, objective: str) -> None:
    config = run(
        trajectory_builder={"_type": builder},
        trainer={"_type": "trl", "objective": objective, "model": {"hf_model_ckpt": "m"}},
    )
    known = set(KEYS_OF_FORMAT_2.read_text("utf-8").split())
    assert keys(config.to_record().config) <= known, "mark what was added: Annotated[…, AddedIn(FORMAT)]"
    assert config.needed_format() == (1, [])
    assert RunConfig.from_record(config.to_record()).document() == config.document()


def test_settings_that_a_format_added_are_recorded_and_named_once_they_are_set() -> None:
    config = run(scores="later", trajectory_builder={"wire": "expanded"})
    assert config.needed_format() == (TURN_FORMAT, ["scores", "trajectory_builder.wire"])
    record = config.to_record()
    assert (record.config["scores"], record.config["trajectory_builder"]["wire"]) == ("later", "expanded")
    assert "score_timeout" not in record.config["trajectory_builder"]
    assert record.digest not in (run().digest, run(scores="later").digest)
    assert config.complete()["trajectory_builder"]["score_timeout"] == "1d"
