"""ART on a machine without a GPU: it gives a service of ours packed sequences, which trains an adapter."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import art
import torch
from art.loss import loss_fn, shift_tensor
from art.preprocessing.inputs import TrainInputs
from art.preprocessing.pack import DiskPackedTensors, packed_tensors_from_dir
from art.utils.get_model_step import get_step_from_dir
from art.utils.output_dirs import get_step_checkpoint_dir
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from tunestream.trainers.art.local import Local
from tunestream.trainers.port import TrainingFailed

__all__ = ["LocalOnCPU"]

_STEPS: Final = "data/step_num_gradient_steps"
# ART's own, for its GPU service.
_PEFT: Final = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
_TRAINER: Final = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.99,
    "weight_decay": 0.1,
    "max_grad_norm": 0.1,
    "per_device_train_batch_size": 2,
}


class LocalOnCPU(Local):
    """This machine as one job uses it, with the CPU's service."""

    def prepare(self) -> None:
        """Prepare nothing: what is patched for unsloth is not needed here."""

    async def open(self) -> None:
        """Make the model known; nothing serves it."""
        set_seed(0)
        await self.register(self._model)

    async def _get_service(self, model: art.TrainableModel) -> Any:
        """Return what holds the model: ART's hook for services of one's own."""
        if model.name not in self._services:
            config = model._internal_config or {}
            self._services[model.name] = CPUService(model.name, model.base_model, config, str(self._folder))
        return self._services[model.name]


class CPUService:
    """Holds nothing between two jobs: the model is read anew, from its latest checkpoint.

    Args:
        model_name: ART's name of the model.
        base_model: a path or a name of the Hugging Face hub.
        config: ``peft_args`` and ``trainer_args`` are read.
        output_dir: the model's folder in ART.
    """

    def __init__(self, model_name: str, base_model: str, config: Mapping[str, Any], output_dir: str) -> None:
        self.model_name = model_name
        self.base_model = base_model
        self.output_dir = output_dir
        self._peft = {**_PEFT, **config.get("peft_args", {})}
        self._trainer = {**_TRAINER, **config.get("trainer_args", {})}

    async def start_openai_server(self, config: Any) -> tuple[str, int]:
        """Refuse: nothing is generated here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the CPU's service serves no model: serve the version")

    async def vllm_engine_is_sleeping(self) -> bool:
        """Tell that nothing competes for the memory."""
        return True

    async def train(
        self, disk_packed_tensors: DiskPackedTensors, config: Any, _config: Any, verbose: bool = False
    ) -> AsyncIterator[dict[str, float]]:
        """Take one optimiser step for each ``per_device_train_batch_size`` sequences, then save.

        Raises:
            TrainingFailed: ``nan_loss`` when the loss is not a number.
        """
        del verbose
        model = self._load()
        model.train()
        optimizer = self._optimizer(model, config.learning_rate)
        packed: Any = packed_tensors_from_dir(**disk_packed_tensors)
        size = int(self._trainer["per_device_train_batch_size"])
        starts = range(0, len(packed["tokens"]), size)
        for start in starts:
            batch = _batch(packed, slice(start, start + size), config, _config)
            metrics = self._step(model, optimizer, batch, _config)
            yield {**metrics, _STEPS: float(len(starts))}
        self._save(model)

    def train_sft(self, batches: Any, config: Any, verbose: bool = False) -> AsyncIterator[dict[str, float]]:
        """Refuse: episodes are trained here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the CPU's service trains by reward; for sft use trainer _type: trl")

    def _load(self) -> Any:
        base = AutoModelForCausalLM.from_pretrained(self.base_model, dtype=torch.float32)
        step = get_step_from_dir(self.output_dir)
        if step:
            checkpoint = get_step_checkpoint_dir(self.output_dir, step)
            return PeftModel.from_pretrained(base, checkpoint, is_trainable=True)
        return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **self._peft))

    def _optimizer(self, model: Any, learning_rate: float) -> torch.optim.Optimizer:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        betas = (self._trainer["adam_beta1"], self._trainer["adam_beta2"])
        return torch.optim.AdamW(
            weights, lr=learning_rate, betas=betas, weight_decay=self._trainer["weight_decay"]
        )

    def _step(
        self, model: Any, optimizer: torch.optim.Optimizer, batch: Any, options: Any
    ) -> dict[str, float]:
        new, entropies = _logprobs(model, batch)
        reference = None
        if options.get("kl_penalty_coef", 0.0) > 0:
            with torch.no_grad(), model.disable_adapter():
                reference, _ = _logprobs(model, batch)
        loss = loss_fn(batch, new, reference, entropies, options)
        if not torch.isfinite(loss.policy_loss):
            remedy = "lower trainer.training.learning_rate"
            raise TrainingFailed("nan_loss", f"the loss became {loss.policy_loss.item()}: {remedy}")
        optimizer.zero_grad()
        loss.policy_loss.backward()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(weights, self._trainer["max_grad_norm"])
        optimizer.step()
        metrics = {"loss/train": loss.policy_loss, "loss/grad_norm": norm, "loss/entropy": loss.entropy}
        return {name: value.item() for name, value in metrics.items() if value is not None}

    def _save(self, model: Any) -> None:
        """Write the next checkpoint; it appears complete or not at all."""
        step = get_step_from_dir(self.output_dir) + 1
        target = Path(get_step_checkpoint_dir(self.output_dir, step))
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        model.save_pretrained(str(partial), safe_serialization=True)
        partial.rename(target)


def _batch(packed: Any, rows: slice, config: Any, options: Any) -> Any:
    """Cut out sequences, without the padding behind the last token that is trained on."""
    said = packed["assistant_mask"][rows].any(dim=0).nonzero()
    length = int(said.max()) + 1
    tensors = {
        name: value[rows, :length] for name, value in packed.items() if isinstance(value, torch.Tensor)
    }
    images = {"pixel_values": [None], "image_grid_thw": [None]}
    return TrainInputs(**tensors, **images, config=config, _config=options, return_new_logprobs=False)


def _logprobs(model: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each next token and the entropy of its distribution, in nats.

    ART packs one episode in a sequence here, so that the causal mask is the right one.
    """
    logits = model(input_ids=batch["tokens"], position_ids=batch["input_pos"].clamp(min=0)).logits.float()
    everything = torch.log_softmax(logits, dim=-1)
    following = shift_tensor(batch["tokens"], 0).clamp(min=0)
    chosen = everything.gather(-1, following.unsqueeze(-1)).squeeze(-1)
    entropies = -(everything.exp() * everything).sum(-1)
    return chosen, entropies.detach()
