"""Real training of a tiny model by each objective in a real worker process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest

from tests.helpers.tiny_model import UNTRAINED, episodes, rows, said, write_tiny_model
from tests.helpers.training import (
    failure_of,
    job_spec,
    largest_difference,
    make_config,
    result_of,
    weights,
)
from tunestream.artifacts import ArtifactStore, put_rows, rows_to_jsonl
from tunestream.config.run.training import DPOLoss
from tunestream.events.dataset import DatasetRow, EpisodeRow, PreferenceRow, ResponseRow
from tunestream.events.training import DatasetFile, Objective
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole
from tunestream.trainers import JobSpec
from tunestream.trainers.worker.handle import WorkerHandle
from tunestream.trainers.worker.protocol import Canceled, Progress

DPO, SFT, KTO, GRPO = Objective.DPO, Objective.SFT, Objective.KTO, Objective.GRPO


def spec_of(store: ArtifactStore, config: Any, train: Sequence[DatasetRow], held_out: Any = ()) -> JobSpec:
    validation = put_rows(store, held_out) if held_out else None
    return job_spec(store, config, train=put_rows(store, train), validation=validation)


def with_worse(pairs: list[PreferenceRow]) -> list[PreferenceRow]:
    """Put after each pair another one of its turn, whose chosen response is a worse one."""
    swapped = [
        row.model_copy(update={"chosen": row.rejected, "rejected": "green", "chosen_score": 0.5})
        for row in pairs
    ]
    return [row for both in zip(pairs, swapped, strict=True) for row in both]


def demonstrations(pairs: list[PreferenceRow]) -> list[ResponseRow]:
    return [ResponseRow(prompt=row.prompt, response=row.chosen) for row in pairs]


@pytest.mark.parametrize(("lora", "epochs"), [({}, 20), (None, 12)], ids=["lora", "full"])
async def test_sft_learns_the_best_of_each_turn(
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    lora: dict[str, Any] | None,
    epochs: int,
) -> None:
    config = make_config(tiny_model, objective=SFT, lora=lora, learning_rate=5e-3, num_train_epochs=epochs)
    spec = spec_of(artifacts, config, with_worse(rows(64)), rows(32, seed=1))
    result = await result_of(trl_worker, spec)
    metrics = result.metrics
    assert metrics["validation_accuracy_after"] > 0.95 > 0.8 > metrics["validation_accuracy_before"]
    assert metrics["validation_token_accuracy_after"] > 0.9 > metrics["validation_token_accuracy_before"]
    assert metrics["validation_loss_after"] < 0.5 < metrics["validation_loss_before"]
    assert (metrics["validation_responses"], metrics["validation_rows"]) == (32, 32)
    assert (result.rows_used, result.rows_skipped) == (64, {"not_the_best": 64})
    assert metrics["token_accuracy"] > 0.9
    assert "validation_reward_margin" not in metrics


async def test_sft_learns_from_responses(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    changes: dict[str, Any] = {"neftune_noise_alpha": 0.1, "num_train_epochs": 12}
    config = make_config(tiny_model, objective=SFT, lora=None, learning_rate=5e-3, **changes)
    spec = spec_of(artifacts, config, demonstrations(rows(64)), demonstrations(rows(32, seed=1)))
    metrics = (await result_of(trl_worker, spec)).metrics
    assert metrics["validation_token_accuracy_after"] > 0.9 > metrics["validation_token_accuracy_before"]
    assert "validation_accuracy_after" not in metrics


async def test_sft_learns_from_the_best_episode_of_a_group(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, objective=SFT, lora=None, learning_rate=5e-3, num_train_epochs=12)
    spec = spec_of(artifacts, config, episodes(48, 8), episodes(16, 8, seed=1))
    result = await result_of(trl_worker, spec)
    assert (result.rows_used, result.rows_skipped) == (48, {"not_the_best": 336})
    metrics = result.metrics
    assert metrics["validation_token_accuracy_after"] > 0.8 > metrics["validation_token_accuracy_before"]


@pytest.mark.parametrize(("lora", "rate"), [({}, 1e-2), (None, 5e-3)], ids=["lora", "full"])
async def test_kto_learns_from_single_responses(
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    lora: dict[str, Any] | None,
    rate: float,
) -> None:
    config = make_config(tiny_model, objective=KTO, lora=lora, learning_rate=rate, num_train_epochs=10)
    result = await result_of(trl_worker, job_spec(artifacts, config))
    metrics = result.metrics
    assert metrics["validation_accuracy_after"] > 0.95 > 0.8 > metrics["validation_accuracy_before"]
    assert metrics["validation_reward_margin"] > 0
    assert (result.rows_used, metrics["steps"]) == (64, 80)  # 8 for 128 responses


async def test_kto_without_neighbours(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    changes: dict[str, Any] = {"loss_type": "apo_zero_unpaired", "desirable_weight": 1.1}
    config = make_config(tiny_model, objective=KTO, learning_rate=1e-2, num_train_epochs=10, **changes)
    metrics = (await result_of(trl_worker, job_spec(artifacts, config))).metrics
    assert metrics["validation_accuracy_after"] > 0.95


async def test_kto_takes_equal_responses_once(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, objective=KTO, num_train_epochs=1)
    pairs = rows(16)
    again = [row.model_copy(update={"rejected": "2"}) for row in pairs]
    result = await result_of(trl_worker, spec_of(artifacts, config, [*pairs, *again]))
    assert (result.rows_used, result.metrics["steps"]) == (32, 3)  # 16 chosen and 32 rejected responses


@pytest.mark.parametrize(("lora", "rate"), [({}, 5e-3), (None, 2e-3)], ids=["lora", "full"])
async def test_grpo_learns_from_recorded_episodes(
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    lora: dict[str, Any] | None,
    rate: float,
) -> None:
    config = make_config(tiny_model, objective=GRPO, lora=lora, learning_rate=rate)
    train = [*episodes(24, 8), *episodes(8, 4, seed=2)]  # groups of 8 and, of the first names, of 12
    spec = spec_of(artifacts, config, train, episodes(16, 8, seed=1))
    result = await result_of(trl_worker, spec)
    metrics = result.metrics
    assert metrics["validation_advantage_gain"] > 0.2
    assert 0.0 < metrics["clip_fraction"] < 1.0
    assert result.rows_used + sum(result.rows_skipped.values()) == 224
    assert metrics["validation_rows"] <= 128


async def test_grpo_leaves_out_groups_of_equal_rewards(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    good = [row.model_copy(update={"reward": float(number % 2)}) for number, row in enumerate(episodes(4, 4))]
    equal = [row.model_copy(update={"group_id": "equal", "reward": 0.5}) for row in episodes(1, 3)]
    alone = [row.model_copy(update={"group_id": "alone"}) for row in episodes(1, 1)]
    config = make_config(tiny_model, objective=GRPO)
    result = await result_of(trl_worker, spec_of(artifacts, config, [*good, *equal, *alone]))
    assert (result.rows_used, result.rows_skipped) == (16, {"zero_variance": 4})
    clean = await result_of(trl_worker, spec_of(artifacts, config, good))
    assert clean.artifact == result.artifact


async def test_grpo_clips_what_is_unlike_the_records(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    blank = write_tiny_model(tmp_path / "blank", blank=True)
    config = make_config(blank, objective=GRPO, num_train_epochs=1, learning_rate=1e-12)

    def recorded(logprob: float) -> list[EpisodeRow]:
        return [
            row.model_copy(
                update={
                    "items": [
                        said(one.content, logprob=logprob) if one.logprobs else one for one in row.items
                    ]
                }
            )
            for row in episodes(8, 4)
        ]

    async def metrics(logprob: float) -> dict[str, float]:
        played = recorded(logprob)
        return (await result_of(trl_worker, spec_of(artifacts, config, played, played))).metrics

    exact, other = await metrics(UNTRAINED), await metrics(UNTRAINED + 1.0)
    assert exact["clip_fraction"] == 0.0
    assert exact["validation_logprob_gap"] == pytest.approx(0.0, abs=1e-5)
    assert exact["train_loss"] == pytest.approx(0.0, abs=1e-4)  # advantages of a group add up to nothing
    assert 0.2 < other["clip_fraction"] < 0.8  # what went badly and became less likely already
    assert other["validation_logprob_gap"] == pytest.approx(1.0, abs=1e-5)


async def test_one_unusable_episode_of_each_kind_is_left_out_and_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    good = episodes(8, 4)
    user = EpisodeItem(role=EpisodeItemRole.USER, content="a")
    late = [EpisodeItem(role=EpisodeItemRole.USER, content=" ".join("0123" * 20)), said("red")]
    changes: list[dict[str, Any]] = [
        {"items": [user, said("red").model_copy(update={"content": "red blue"})]},
        {"items": [user, said("blue").model_copy(update={"content": "red"})]},
        {"items": [user, said("red", logprob=-9999.0)]},
        {"items": [user, said("red").model_copy(update={"logprobs": {"what": [1]}})]},
        {"items": [user]},
        {"items": [said("red"), user]},
        {"items": late},
    ]
    # In groups of their own with another reward, so that the good ones keep theirs.
    bad = [
        good[0].model_copy(update={"group_id": f"bad{number}", "reward": reward, **change})
        for number, change in enumerate(changes)
        for reward in (0.0, 1.0)
    ]
    content = rows_to_jsonl([*good, *bad, *rows(1)]) + b"not json\n"
    stored = artifacts.put_bytes(content)
    train = DatasetFile(uri=stored.uri, sha256=stored.sha256, rows=48, size=stored.size)
    config = make_config(tiny_model, objective=GRPO)
    result = await result_of(trl_worker, job_spec(artifacts, config, train=train, validation=None))
    clean = await result_of(trl_worker, spec_of(artifacts, config, good))
    assert dict(result.rows_skipped) == {
        **clean.rows_skipped,
        "logprobs_mismatch": 4,
        "bad_logprobs": 2,
        "no_logprobs": 4,
        "empty_prompt": 2,
        "too_long": 2,
        "wrong_kind": 1,
        "unreadable": 1,
    }
    assert clean.artifact == result.artifact


async def test_rows_of_another_kind_are_named(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    for objective, train in ((GRPO, rows(3)), (DPO, episodes(1, 3)), (KTO, demonstrations(rows(3)))):
        spec = spec_of(artifacts, make_config(tiny_model, objective=objective), train)
        failure = await failure_of(trl_worker, spec)
        assert failure.code == "empty_dataset"
        assert "3 wrong_kind" in failure.message
        assert f"objective {objective}" in failure.message


@pytest.mark.parametrize("objective", [DPO, SFT, GRPO])
async def test_a_version_is_judged_by_rows_of_earlier_batches(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, objective: Objective
) -> None:
    rate = 2e-3 if objective is GRPO else 5e-3
    config = make_config(tiny_model, objective=objective, lora=None, learning_rate=rate, num_train_epochs=12)
    train, other, first, second = rows(64), rows(32, seed=1), rows(20, seed=2), rows(30, seed=3)
    kinds: list[Sequence[DatasetRow]] = [train, other, first, second]
    if objective is GRPO:
        kinds = [episodes(24, 8, seed=seed) for seed in range(4)]
    spec = spec_of(artifacts, config, *kinds[:2])
    judging = [put_rows(artifacts, part) for part in kinds[2:]]
    plain = await result_of(trl_worker, spec)
    result = await result_of(trl_worker, spec.model_copy(update={"judging": judging, "judging_rows": 40}))
    assert plain.judged == []
    assert plain.artifact == result.artifact
    assert len(result.judged) == (24 if objective is GRPO else 40)  # groups of one file, or rows of two
    before, after = (fmean(getattr(row, when) for row in result.judged) for when in ("before", "after"))
    assert after > before + 0.1
    assert len({row.prompt for row in result.judged}) > 5


LOSSES: list[Any] = [*get_args(DPOLoss), ["sigmoid", "bco_pair", "sft"], ["ipo", "hinge"]]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
async def test_every_loss_of_dpo_takes_a_step(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path, loss: str | list[str]
) -> None:
    changes: dict[str, Any] = {"loss_type": loss, "num_train_epochs": 1}
    if loss == "exo_pair":
        changes["label_smoothing"] = 0.001
    if isinstance(loss, list):
        changes["loss_weights"] = [1.0, 0.5, 0.1][: len(loss)]
    spec = spec_of(artifacts, make_config(tiny_model, **changes), rows(16), rows(16, seed=1))
    metrics = (await result_of(trl_worker, spec)).metrics
    assert metrics["steps"] == 1
    assert metrics["validation_margin_after"] != metrics["validation_margin_before"]


async def test_the_weights_of_losses_count(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    async def loss(weights_: list[float]) -> float:
        config = make_config(
            tiny_model, loss_type=["sigmoid", "sft"], loss_weights=weights_, num_train_epochs=1
        )
        result = await result_of(trl_worker, spec_of(artifacts, config, rows(16)))
        return result.metrics["train_loss"]

    first, second, both = await loss([1.0, 0.0]), await loss([0.0, 1.0]), await loss([2.0, 3.0])
    assert first != pytest.approx(second, rel=0.1)
    assert both == pytest.approx(2 * first + 3 * second, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "bits"),
    [(SFT, {"load_in_8bit": True}), (KTO, {"bnb_4bit_quant_type": "fp4"}), (GRPO, {})],
    ids=["sft-int8", "kto-fp4", "grpo-nf4"],
)
async def test_quantised_models_learn_by_every_objective(
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    objective: Objective,
    bits: dict[str, Any],
) -> None:
    options = {"quantize": True, "bitsandbytes": bits}
    config = make_config(
        tiny_model, objective=objective, model_options=options, learning_rate=5e-3, num_train_epochs=8
    )
    kinds: tuple[Any, Any] = (rows(64), rows(32, seed=1))
    if objective is GRPO:
        kinds = episodes(24, 8), episodes(16, 8, seed=1)
    metrics = (await result_of(trl_worker, spec_of(artifacts, config, *kinds))).metrics
    if objective is GRPO:
        assert metrics["validation_advantage_gain"] > 0
    else:
        assert metrics["validation_accuracy_after"] > metrics["validation_accuracy_before"]


@pytest.mark.parametrize(
    "objective", [GRPO, pytest.param(SFT, marks=pytest.mark.soak), pytest.param(KTO, marks=pytest.mark.soak)]
)
async def test_an_interrupted_job_resumes_to_the_same_weights(
    trl_worker: WorkerHandle,
    artifacts: ArtifactStore,
    tiny_model: Path,
    tmp_path: Path,
    objective: Objective,
) -> None:
    config = make_config(
        tiny_model, objective=objective, num_train_epochs=40, save_steps=5, gradient_accumulation_steps=2
    )
    train: Sequence[DatasetRow] = episodes(12, 8) if objective is GRPO else rows(64)
    undisturbed = await result_of(trl_worker, spec_of(artifacts, config, train))
    spec = spec_of(artifacts, config, train)
    async for report in trl_worker.run(spec):
        if isinstance(report, Progress) and report.checkpoint:
            await trl_worker.cancel(spec.job_id)
    assert isinstance(report, Canceled)
    again = await result_of(trl_worker, spec.model_copy(update={"attempt": 2}))
    resumed = weights(artifacts, again.artifact, tmp_path / "resumed")
    whole = weights(artifacts, undisturbed.artifact, tmp_path / "whole")
    assert largest_difference(resumed, whole) == 0.0
    assert again.metrics["steps"] == undisturbed.metrics["steps"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_an_objective_that_the_worker_does_not_know_is_refused(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    config = make_config(tiny_model, num_train_epochs=1)
    pid = trl_worker.pid
    unknown = job_spec(artifacts, config.model_copy(update={"objective": "ppo"}))
    failure = await failure_of(trl_worker, unknown)
    assert failure.code == "unreadable_job"
    assert "objective" in failure.message
    assert "'dpo'" in failure.message
    await result_of(trl_worker, job_spec(artifacts, config))
    assert trl_worker.pid == pid


async def test_groups_of_one_teach_nothing(
    trl_worker: WorkerHandle, artifacts: ArtifactStore, tiny_model: Path
) -> None:
    lonely: list[EpisodeRow] = [
        row.model_copy(update={"group_id": f"g{number}"}) for number, row in enumerate(episodes(1, 6))
    ]
    spec = spec_of(artifacts, make_config(tiny_model, objective=GRPO), lonely)
    failure = await failure_of(trl_worker, spec)
    assert failure.code == "empty_dataset"
    assert "6 zero_variance" in failure.message
