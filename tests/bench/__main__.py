"""``python -m tests.bench [NAME]…``: run benchmarks and tell what they found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tests.bench import (
    hops,
    jobs,
    large_group,
    latency,
    letters,
    memory,
    pair_core,
    recovery,
    restore,
    serving,
    training,
    turn_hops,
)
from tests.bench.context import Context
from tests.bench.document import write_docs
from tests.bench.results import Figure, Report, this_machine
from tunestream.streams.embedded import EmbeddedKafka

Benchmark = Callable[[Context], Awaitable[Sequence[Figure]]]

# By name: what it is, and whether it needs a broker.
BENCHMARKS: Final[dict[str, tuple[Benchmark, bool]]] = {
    "pair-core": (pair_core.pair_core, False),
    "large-turn": (pair_core.large_turn, False),
    "large-group": (large_group.large_group, False),
    "collector": (hops.collector, True),
    "pair-builder": (hops.pair_builder, True),
    "collector-turns": (turn_hops.collector_turns, True),
    "pair-builder-turns": (turn_hops.pair_builder_turns, True),
    "turn-sizes": (turn_hops.turn_sizes, True),
    "latency": (latency.latency, True),
    "recovery": (recovery.recovery, True),
    "restore": (restore.restore, True),
    "trainer": (training.trainer, False),
    "worker-memory": (jobs.worker_memory, False),
    "cancel": (jobs.cancel, True),
    "serving": (serving.serving, True),
    "memory": (memory.memory, True),
    "letters": (letters.letters, True),
}

app = typer.Typer(add_completion=False)
console = Console(width=None if Console().is_terminal else 140)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"default: {', '.join(BENCHMARKS)}")] = None,
    json: Annotated[Path | None, typer.Option(help="write all figures there")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="fewer records and rounds; only to try")] = False,
    quix: Annotated[Path | None, typer.Option(help="python of an environment with quixstreams in it")] = None,
    kafka_streams: Annotated[
        Path | None,
        typer.Option(
            help="folder with the jars of Kafka Streams and Jackson; needs a JDK", resolve_path=True
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="folder for what each service spent its CPU on; slows it by some per cent"),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="memory over ten million candidates: half an hour")
    ] = False,
    docs: Annotated[Path | None, typer.Option("--write-docs", help="a run's JSON, into the page")] = None,
) -> None:
    """Measure, and compare with the bars."""
    if docs is not None:
        write_docs(docs)
        return
    chosen = names or list(BENCHMARKS)
    if unknown := set(chosen) - set(BENCHMARKS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    report = Report(quick=quick, machine=this_machine())
    with TemporaryDirectory(prefix="bench-") as folder:
        context = Context("", Path(folder), quick, quix, kafka_streams, profile, long)
        asyncio.run(_run(chosen, report, context))
    console.print(_table(report))
    if json is not None:
        json.write_text(report.to_json(), "utf-8")
    raise typer.Exit(1 if report.failed else 0)


async def _run(names: Sequence[str], report: Report, context: Context) -> None:
    broker = EmbeddedKafka(context.folder / "kafka")
    try:
        for name in names:
            run, needs_broker = BENCHMARKS[name]
            if needs_broker:
                context = await _with_broker(broker, context)
            console.rule(name)
            try:
                report.add(await run(context), _tell)
            except Exception as error:  # noqa: BLE001 # the others still count; the exit status tells
                console.print_exception()
                report.failed[name] = f"{type(error).__name__}: {error}"
    finally:
        broker.stop()
    report.machine["load_average_after"] = [round(each, 1) for each in os.getloadavg()]


async def _with_broker(broker: EmbeddedKafka, context: Context) -> Context:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given is None and not broker.is_running:
        await asyncio.to_thread(broker.start)
    return replace(context, servers=given or broker.bootstrap_servers)


def _tell(figure: Figure) -> None:
    console.print(f"{figure.name}: [bold]{figure.text}[/] {figure.spread} {_verdict(figure)}")


def _table(report: Report) -> Table:
    title = "tunestream benchmarks" + (" (quick: not to be quoted)" if report.quick else "")
    table = Table("benchmark", "figure", "median", "rounds", "bar", "", title=title)
    for figure in report.figures:
        bar = "" if figure.bar is None else str(figure.bar)
        table.add_row(figure.benchmark, figure.name, figure.text, figure.spread, bar, _verdict(figure))
    for name, reason in report.failed.items():
        table.add_row(name, f"[red]failed: {reason}[/]")
    return table


def _verdict(figure: Figure) -> str:
    return {None: "", True: "[green]reached[/]", False: "[red]missed[/]"}[figure.reached]


if __name__ == "__main__":
    app()
