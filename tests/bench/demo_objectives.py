"""``python -m tests.bench.demo_objectives``: the demo by each objective, and the table of docs/training.md.

Cases run one after the other, and each is written as soon as it has ended; those that the file holds
already are not run again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Self

import typer

from tests.bench.document import write_between
from tests.bench.results import this_machine
from tunestream.demo.recipes import RECIPES, Quantization, Recipe
from tunestream.events.training import Objective

__all__ = ["Case", "render"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "training.md"
BEGIN: Final = "<!-- written by python -m tests.bench.demo_objectives --write-docs; do not edit -->"
CASES: Final = (
    "dpo:0", "dpo:1", "grpo:0", "grpo:1", "sft:0", "sft:1", "kto:0", "kto:1",
    "dpo+nf4:0", "dpo+nf4:1", "dpo+int8:0",
)  # fmt: skip
_DEADLINE_SECONDS: Final = 3600.0

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Case:
    """One run of the demo, written ``objective:seed`` or ``objective+quantization:seed``."""

    objective: Objective
    quantization: Quantization | None
    seed: int

    @classmethod
    def parse(cls, text: str) -> Self:
        found = re.fullmatch(r"(\w+)(?:\+(\w+))?:(\d+)", text)
        if found is None:
            raise ValueError(f"{text!r} is no case; write dpo:0 or dpo+nf4:0")
        quantization = None if found[2] is None else Quantization(found[2])
        return cls(Objective(found[1]), quantization, int(found[3]))

    def options(self, rounds: int, data: Path) -> list[str]:
        """The demo's options."""
        chosen = ["--objective", self.objective, "--seed", str(self.seed), "--rounds", str(rounds)]
        if self.quantization is not None:
            chosen += ["--quantize", self.quantization]
        return [*chosen, "--json", "--data", str(data)]


Results = dict[str, Any]
"""What the demo printed with ``--json``."""


@app.command()
def main(
    cases: Annotated[list[str] | None, typer.Argument(help=f"default: {' '.join(CASES)}")] = None,
    file: Annotated[Path | None, typer.Option("--json", help="runs are added there")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 6,
    docs: Annotated[Path | None, typer.Option("--write-docs", help="such a file, into the page")] = None,
) -> None:
    """Measure what the file lacks, or write its table into docs/training.md."""
    if docs is not None:
        machine, runs = _read(docs)
        write_between(PAGE, BEGIN, render(machine, runs))
        return
    if file is None:
        raise typer.BadParameter("name the file for the runs", param_hint="--json")
    machine, runs = _read(file) if file.exists() else (this_machine(), [])
    for case in map(Case.parse, cases or CASES):
        if case not in map(_case, runs):
            runs.append(_run(case, rounds))
            _write(file, machine, runs)


def render(machine: dict[str, Any], runs: Sequence[Results]) -> str:
    """Return the recipes and the runs in Markdown, in the order of the objectives."""
    head = (
        "objective", "weights", "seed", "optimal moves by version, %", "gain, points", "illegal",
        "last version against random", "time",
    )  # fmt: skip
    order = list(Objective)
    ranked = sorted(runs, key=lambda run: (order.index(run["objective"]), run["quantization"] or ""))
    on = f"{machine['date']}, {machine['cores']} shared cores, {machine['system']}"
    lines = [_row(head), "|---" * len(head) + "|", *(_row(_cells(run)) for run in ranked)]
    return "\n".join([*_recipes(), "", f"{on}, Python {machine['python']}.\n", *lines]) + "\n"


def _recipes() -> list[str]:
    head = ("objective", "agents publish, of a board", "a window", "learning rate", "arguments")
    return [_row(head), "|---" * len(head) + "|", *(_row(_recipe(each)) for each in RECIPES.values())]


def _recipe(recipe: Recipe) -> list[str]:
    published = "samples, an episode each" if recipe.plays_episodes else "different answers, a pair in all"
    arguments = ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in recipe.arguments.items())
    return [
        f"`{recipe.objective}`",
        f"{recipe.answers} {published}",
        f"{recipe.window:,} {recipe.unit}",
        f"{recipe.learning_rate:g}",
        arguments or "the defaults",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(results: Results) -> list[str]:
    case, gain = _case(results), results["gain"]
    mean, low, high = (100 * gain[name] for name in ("mean", "low", "high"))
    shares = (f"{100 * results['after'][name]:.0f}" for name in ("win", "draw", "loss", "illegal"))
    return [
        f"`{case.objective}`",
        "LoRA" if case.quantization is None else f"QLoRA, {case.quantization}",
        str(case.seed),
        " ".join(f"{100 * version['optimal']['mean']:.0f}" for version in results["versions"]),
        f"{mean:+.1f} ({low:+.1f} to {high:+.1f})",
        str(results["versions"][-1]["illegal"]),
        " / ".join(shares),
        f"{results['activity']['seconds']:.0f} s",
    ]


def _case(results: Results) -> Case:
    quantization = results["quantization"]
    return Case(
        Objective(results["objective"]),
        None if quantization is None else Quantization(quantization),
        int(results["seed"]),
    )


def _run(case: Case, rounds: int) -> Results:
    with TemporaryDirectory(prefix="demo-") as folder:
        command = [sys.executable, "-m", "tunestream", "demo", *case.options(rounds, Path(folder))]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=_DEADLINE_SECONDS)
        # 1 says that nothing was gained, which is a result as well.
        if done.returncode not in {0, 1} or not done.stdout:
            raise RuntimeError(f"{case} ended with {done.returncode}")
        results: Results = json.loads(done.stdout)
        return results


def _read(file: Path) -> tuple[dict[str, Any], list[Results]]:
    stored = json.loads(file.read_text("utf-8"))
    return stored["machine"], stored["runs"]


def _write(file: Path, machine: dict[str, Any], runs: Sequence[Results]) -> None:
    file.write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    app()
