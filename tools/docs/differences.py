"""Where a default or a bound of the references is a defect and ours differs; the docs' table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Attributes:
        field: dotted path of the key in a run's file.
        reference: what the NeMo Agent Toolkit or the experiment toolkit has.
        ours: what a run has.
        why: what went wrong with theirs.
    """

    field: str
    reference: str
    ours: str
    why: str


DIFFERENCES: Final = (
    Difference("*", "unknown keys ignored", "unknown keys refused", "a misspelt key trains at defaults"),
    Difference(
        "enabled", "false", "true", "a run is applied on purpose; a second switch only leaves it silently off"
    ),
    Difference(
        "trajectory_builder.min_score_diff",
        "0.0 pairs equal scores; infinity accepted",
        "0.0, equal scores are never paired; finite",
        "a pair without a preference teaches noise",
    ),
    Difference(
        "curriculum_learning.min_reward_diff", "any number", "at least 0", "below 0 it filters nothing"
    ),
    Difference(
        "curriculum_learning.random_subsample",
        "any number, drawn without a seed",
        "above 0 to 1, drawn by batching.seed",
        "0 and below train on nothing; an unseeded draw cannot be repeated",
    ),
    Difference(
        "trainer.model.hf_model_ckpt",
        "NousResearch/Llama-2-7b-hf",
        "required",
        "a forgotten key downloaded and trained another model",
    ),
    Difference(
        "trainer.model.quantize",
        "false with a bitsandbytes section still loads 4 bits",
        "false loads unquantised",
        "the switch did not switch",
    ),
    Difference(
        "trainer.model.bitsandbytes.bnb_4bit_compute_dtype",
        "a torch object",
        "bfloat16, as text",
        "the default could not be written to a file",
    ),
    Difference(
        "trainer.training.training_args.optim",
        "paged_adamw_32bit",
        "adamw_torch_fused",
        "the paged optimiser needs CUDA and bitsandbytes",
    ),
    Difference(
        "trainer.training.training_args.logging_steps",
        "100",
        "1",
        "a job of the stream has fewer steps, so that no loss would be reported",
    ),
    Difference(
        "trainer.hf_token",
        "the token itself",
        "hf_token_env, the name of an environment variable",
        "a secret in a file ends in logs and topics",
    ),
    Difference(
        "trainer.backend.api_key",
        "the key itself",
        "api_key_env, the name of an environment variable",
        "a secret in a file ends in logs and topics",
    ),
    Difference(
        "trainer.backend.name",
        "trainer_run",
        "the run's id",
        "two runs with the default trained one model",
    ),
    Difference(
        "trainer.training (ART)",
        "any map, of which nothing was read: learning_rate 5e-5, no beta",
        "named settings, all sent; learning_rate 5e-6",
        "what was set did nothing",
    ),
    Difference(
        "trainer.dataset_name",
        "one repository, whose branch main every job overwrites",
        "a repository of this name for each job, and its commit in the dataset's URL",
        "two jobs at once trained on each other's data",
    ),
    Difference(
        "trainer.use_full_message_history",
        "false",
        "true",
        "the last message alone drops the system prompt and all earlier messages",
    ),
)
