"""``tunestream demo``: the whole loop on this machine, and whether the model got better."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.markup import escape

from tunestream.cli.child import ProcessSpec
from tunestream.cli.embedding import BrokerOption, embedded_kafka
from tunestream.cli.errors import Failure, TryAgain
from tunestream.cli.experiment.options import SAVE_DIR, SaveDirOption
from tunestream.cli.extras import check_extra
from tunestream.cli.logs import show_logs
from tunestream.cli.output import JsonOption, console, emit, logs, note, warn
from tunestream.cli.serve import server_command
from tunestream.cli.service_processes import free_port, service_processes
from tunestream.cli.stopping import until_stopped
from tunestream.cli.supervisor import Supervisor
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.demo.loop import play
from tunestream.demo.plan import DemoFailed, DemoPlan, DemoSite
from tunestream.demo.recipes import Quantization
from tunestream.demo.report import render, write_report
from tunestream.demo.results import DemoResults
from tunestream.demo.run_config import BASE_NAME, run_document
from tunestream.demo.view import Screen, render_screen
from tunestream.events.training import Objective
from tunestream.streams.admin import apply_topics
from tunestream.streams.runs import apply_run
from tunestream.topics import SERVICES

__all__ = ["register"]

# The base model's warm start, torch's imports and the services' start share two cores.
_READY_SECONDS: Final = 480.0
_BASE_SECONDS: Final = 900.0
# The model is tiny: a second thread buys nothing, and where others are busy it spins.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
_REFRESH_SECONDS: Final = 0.5
_NEEDED: Final = ("faststream", "fastapi", "torch", "trl", "matplotlib", "jinja2")

SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of the base model, the games and the jobs.")
]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Number of full windows to train on.")]
ObjectiveOption = Annotated[
    Objective,
    typer.Option(
        "--objective",
        help="Pairs of each turn (dpo, kto), the best answer of each turn (sft), or episodes (grpo).",
    ),
]
QuantizeOption = Annotated[
    Quantization | None,
    typer.Option("--quantize", help="QLoRA: the base model's weights in 4 or 8 bits."),
]
KeepOption = Annotated[
    bool, typer.Option("--keep", help="Go on playing and training after the last round, until Ctrl-C.")
]
CurriculumOption = Annotated[
    bool, typer.Option("--curriculum", help="Begin with the best 60 % of each window's groups.")
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="EXPERIMENT", help="Begin with the best arm of an experiment on the demo's words."
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data", file_okay=False, help="Folder of the broker, models, logs and the report.")
]


@dataclass(frozen=True, slots=True)
class _Options:
    plan: DemoPlan
    curriculum: bool
    broker: str | None
    data: Path
    base: tuple[str, Path] | None = None  # an experiment and its folder


def register(app: typer.Typer) -> None:
    """Add ``demo`` to ``app``."""
    app.command("demo")(demo)


def demo(
    seed: SeedOption = 0,
    rounds: RoundsOption = 8,
    objective: ObjectiveOption = Objective.DPO,
    quantize: QuantizeOption = None,
    keep: KeepOption = False,
    curriculum: CurriculumOption = False,
    broker: BrokerOption = None,
    data: DataOption = Path(".tunestream/demo"),
    base: BaseOption = None,
    save_dir: SaveDirOption = SAVE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Watch a small model get better at tic-tac-toe while it plays.

    It starts the broker, the four services and a model server. Agents play through the server and publish
    scored answers, which train the model. Each promoted version is served, and measured on boards that
    were never published. Exit code 1 unless the 95 % interval of the gain is above 0.
    """
    check_extra("demo", *_NEEDED)
    show_logs("warning")
    plan = DemoPlan(seed, rounds, keep, objective, quantize)
    begin = None if base is None else (base, save_dir)
    options = _Options(plan, curriculum, broker, data.absolute(), begin)
    results = asyncio.run(until_stopped(_demo(options, as_json=as_json)))
    if results is None or not results.passed:
        raise typer.Exit(1)


async def _demo(options: _Options, *, as_json: bool) -> DemoResults:
    """Run the demo and return its results; the process ends with all that it started."""
    reported: list[DemoResults] = []

    def report(results: DemoResults) -> None:
        reported.append(results)
        _report(results, options.data / "report", as_json=as_json)

    async with _site(options) as (site, supervisor):
        playing = asyncio.create_task(_watch(options.plan, site, report))
        dying = asyncio.create_task(supervisor.wait())
        try:
            done, _ = await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return playing.result()
        except DemoFailed as failed:
            raise Failure(str(failed), remedy=f"Read the logs in {options.data / 'logs'}") from failed
        except asyncio.CancelledError:
            if reported:  # with --keep, Ctrl-C is the ordinary end
                return reported[0]
            raise
        finally:
            for task in (playing, dying):
                task.cancel()
            await asyncio.gather(playing, dying, return_exceptions=True)


@asynccontextmanager
async def _site(options: _Options) -> AsyncIterator[tuple[DemoSite, Supervisor]]:
    """Start broker, services and policy server."""
    data, plan = options.data, options.plan
    async with AsyncExitStack() as stack:
        note("making the base model (once for each seed) and starting Kafka")
        making = asyncio.create_task(_base(options))
        stack.callback(making.cancel)
        broker = options.broker
        if broker is None:
            broker = (await stack.enter_async_context(embedded_kafka(data / "kafka"))).bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=broker)
        await apply_topics(kafka)
        base = await making
        policy, url = _policy_server(base, data / "logs")
        run_id = f"tic-tac-toe-{plan.objective}-{plan.seed}-{int(time())}"
        document = run_document(
            run_id,
            base,
            recipe=plan.recipe,
            policy_url=url,
            seed=plan.seed,
            quantize=plan.quantize,
            curriculum=options.curriculum,
        )
        await apply_run(kafka, RunConfig.model_validate(document), source="/demo")
        services = service_processes(SERVICES, kafka, artifacts=str(data / "artifacts"), logs=data / "logs")
        note("starting the services and the policy server")
        processes = [*(service.process for service in services), policy]
        supervisor = await stack.enter_async_context(Supervisor(processes, report=warn))
        await supervisor.wait_ready(_READY_SECONDS)
        yield DemoSite(kafka, url, run_id), supervisor


async def _base(options: _Options) -> Path:
    folder = options.data / "models"
    if options.base is None:
        return await _base_model(options.plan.seed, folder)
    from tunestream.cli.experiment.export import standing_alone  # noqa: PLC0415 - only this needs it

    name, save_dir = options.base
    return await asyncio.to_thread(standing_alone, name, save_dir, folder)


async def _base_model(seed: int, folder: Path) -> Path:
    command = ("-m", "tunestream.demo.base_model", "--seed", str(seed), "--folder", str(folder))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=PIPE, stderr=PIPE, env=os.environ | _ONE_THREAD
    )
    try:
        async with asyncio.timeout(_BASE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        reason = f"the base model was not made within {_BASE_SECONDS:.0f} s"
        raise TryAgain(reason, remedy="Try again when the machine does less.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Failure(f"the base model could not be made:\n{err.decode(errors='replace')[-2000:]}")
    return Path(out.decode().strip())


def _policy_server(base: Path, folder: Path) -> tuple[ProcessSpec, str]:
    port = free_port(0)
    url = f"http://127.0.0.1:{port}"
    command = server_command(base, BASE_NAME, port=port)
    log = folder / "policy_server.log"
    return ProcessSpec("policy_server", command, log, _ONE_THREAD, f"{url}/health"), url


async def _watch(plan: DemoPlan, site: DemoSite, report: Callable[[DemoResults], None]) -> DemoResults:
    """Play while the screen shows it."""
    with Live(console=logs(), auto_refresh=False, transient=True) as live:
        drawing: list[asyncio.Task[None]] = []

        def start(screen: Screen) -> None:
            drawing.append(asyncio.create_task(_draw(screen, live)))

        try:
            return await play(plan, site, on_start=start, on_results=report)
        finally:
            for task in drawing:
                task.cancel()


async def _draw(screen: Screen, live: Live) -> None:
    start = monotonic()
    while True:
        now = monotonic()
        live.update(render_screen(screen, now=now, elapsed=now - start), refresh=True)
        await asyncio.sleep(_REFRESH_SECONDS)


def _report(results: DemoResults, folder: Path, *, as_json: bool) -> None:
    files = write_report(results, folder)
    if as_json:
        emit(results.document())
    else:
        console().print(render(results))
    note(escape(f"picture {files.picture}\npage    {files.page}"))
