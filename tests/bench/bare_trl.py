"""The comparator of the trainer: TRL as its documentation shows it, warm, on the same rows.

``python -m tests.bench.bare_trl MODEL ROWS ARGUMENTS``: for each line on standard input it trains once and
prints the seconds of ``train()`` and of everything from the rows to the weights on disk, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer


def train(model: str, rows: Path, arguments: dict[str, Any], output: str) -> dict[str, float]:
    """Train once and return the seconds it took."""
    began = time.perf_counter()
    dataset = Dataset.from_list([json.loads(line) for line in rows.read_text("utf-8").splitlines()])
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(output_dir=output, **arguments),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=dataset,
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model(output)
    return {"train": seconds, "all": time.perf_counter() - began}


def main() -> None:
    """Train as often as asked."""
    model, rows, arguments = sys.argv[1:]
    disable_progress_bars()
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as output:
            print(json.dumps(train(model, Path(rows), json.loads(arguments), output)), flush=True)


if __name__ == "__main__":
    main()
