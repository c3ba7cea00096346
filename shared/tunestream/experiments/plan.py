"""What each stage depends on, and the key that follows from it. Pure but for :class:`Contents`.

A stage's inputs are its own settings and the digests of what it reads. So a changed temperature asks the
model again and trains nothing, and two arms with the same inputs share a stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tunestream.artifacts.trees import Manifest
from tunestream.config.experiment.experiment import Config
from tunestream.config.run.model import ModelConfig
from tunestream.events.training import Objective
from tunestream.experiments.manifests import StageManifest
from tunestream.experiments.sources import sha256_of
from tunestream.experiments.stages import Stage, StageFailed

__all__ = ["Contents", "Outputs", "inputs_of", "key_of", "seeds_of", "stages_of"]

Outputs = Mapping[Stage, StageManifest]
"""The stages of an arm that are complete."""

_FORMAT: Final = 1  # of the stages' outputs; with another one all stages run again


class Contents:
    """Digests of files and folders that the configuration names, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the sha256 of a file, or over names and contents of a folder.

        Raises:
            StageFailed: when there is none.
        """
        if not path.exists():
            raise StageFailed("no_such_file", f"the configuration names {path}, which does not exist")
        if path not in self._known:
            self._known[path] = Manifest.of(path).digest if path.is_dir() else sha256_of(path)
        return self._known[path]


def stages_of(config: Config) -> tuple[Stage, ...]:
    """Return an arm's stages in the order in which they run."""
    return tuple(stage for stage in Stage if stage is not Stage.BASELINE or config.qa.baseline)


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the sha256 of inputs."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return sha256(text.encode()).hexdigest()


def inputs_of(
    stage: Stage, config: Config, outputs: Outputs, contents: Contents, source: Mapping[str, Any]
) -> dict[str, Any]:
    """Return exactly what a stage depends on.

    Args:
        stage: whose parents are in ``outputs``.
        config: of the arm.
        outputs: manifests of its complete stages.
        contents: of files that the configuration names.
        source: the data's fingerprint.
    """
    return {"stage": str(stage), "format": _FORMAT, **_own(stage, config, outputs, contents, source)}


def _own(
    stage: Stage, config: Config, outputs: Outputs, contents: Contents, source: Mapping[str, Any]
) -> dict[str, Any]:
    match stage:
        case Stage.INGEST:
            return {"data": _data(config), "source": dict(source)}
        case Stage.FINETUNE:
            return _finetune(config, outputs[Stage.INGEST], contents)
        case Stage.INFERENCE:
            weights = outputs[Stage.FINETUNE].details["weights_sha256"]
            return _inference(config, outputs[Stage.INGEST], contents) | {"weights": weights}
        case Stage.BASELINE:
            return _inference(config, outputs[Stage.INGEST], contents)
        case Stage.QA:
            return _qa(config, outputs, contents)


def seeds_of(stage: Stage, config: Config) -> dict[str, int]:
    """Return the seeds that a stage uses."""
    if stage is Stage.INGEST:
        return {"train_test_split_seed": config.data.train_test_split_seed}
    if stage is Stage.FINETUNE:
        return {"seed": config.seeded_training.training_args.seed}
    return {"seed": config.seed}


def _data(config: Config) -> dict[str, Any]:
    return config.data.model_dump(mode="json", exclude={"path", "revision"})


def _finetune(config: Config, ingest: StageManifest, contents: Contents) -> dict[str, Any]:
    others = {f"{each}_args" for each in Objective if each is not config.learns}
    return {
        "objective": str(config.learns),
        "model": _model(config.model, contents),
        "lora": config.lora.model_dump(mode="json") if config.lora else None,
        "training": config.seeded_training.model_dump(mode="json", exclude=others),
        "train": ingest.outputs["train.jsonl"],
        "validation": ingest.outputs["validation.jsonl"],
    }


def _inference(config: Config, ingest: StageManifest, contents: Contents) -> dict[str, Any]:
    return {
        "model": _model(config.model, contents),
        "inference": config.inference.model_dump(mode="json", exclude={"api_key_env"}),
        "seed": config.seed if config.inference.do_sample else None,
        "test": ingest.outputs["test.jsonl"],
    }


def _qa(config: Config, outputs: Outputs, contents: Contents) -> dict[str, Any]:
    suite = config.qa.test_suite
    baseline = outputs.get(Stage.BASELINE)
    inputs = {
        "qa": config.qa.model_dump(mode="json", exclude={"test_suite", "baseline"}),
        "seed": config.seed,
        "tuned": outputs[Stage.INFERENCE].outputs["results.jsonl"],
        "baseline": baseline.outputs["results.jsonl"] if baseline else None,
        "suite": None,
    }
    if suite is None:
        return inputs
    # The banks' prompts are answered by the model itself.
    return inputs | {"suite": contents.of(Path(suite)), "answers": outputs[Stage.INFERENCE].key}


def _model(model: ModelConfig, contents: Contents) -> dict[str, Any]:
    """Describe a model by its files where it is a folder, else by its name."""
    settings = model.model_dump(mode="json", exclude={"bitsandbytes", "quantize"})
    settings["quantization"] = model.quantization.model_dump(mode="json") if model.quantization else None
    folder = Path(model.hf_model_ckpt)
    if folder.is_dir():
        settings["hf_model_ckpt"] = {"files": contents.of(folder)}
    return settings
