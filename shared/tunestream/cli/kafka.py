"""``tunestream kafka``: the embedded broker alone, in the foreground."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from tunestream.cli.errors import Failure
from tunestream.cli.logs import show_logs
from tunestream.cli.output import JsonOption, emit_line, note

if TYPE_CHECKING:
    from tunestream.streams.embedded import EmbeddedKafka

__all__ = ["register"]

DEFAULT_PORT: Final = 9092

PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Where clients find it on 127.0.0.1; 0 takes a free port.")
]
DataOption = Annotated[Path, typer.Option(file_okay=False, help="The folder that keeps its records.")]


def register(app: typer.Typer) -> None:
    """Add ``kafka`` to ``app``."""
    app.command("kafka")(kafka)


def kafka(
    port: PortOption = DEFAULT_PORT, data: DataOption = Path(".tunestream/kafka"), as_json: JsonOption = False
) -> None:
    """Run a real Apache Kafka in a folder, without installing it.

    It runs until Ctrl-C or SIGTERM. The next start continues from the same records.
    """
    show_logs("warning")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve(data, port or None, as_json=as_json)
    except KeyboardInterrupt:
        note("Kafka has stopped.")


def _serve(data: Path, port: int | None, *, as_json: bool) -> None:
    try:
        from tunestream.streams.embedded import EmbeddedKafka, EmbeddedKafkaError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Failure(str(error)) from error

    try:
        with EmbeddedKafka(data, port=port) as broker:
            _report(broker, as_json=as_json)
            broker.wait()
    except EmbeddedKafkaError as error:
        raise Failure(error.problem, remedy=error.remedy) from error


def _report(broker: EmbeddedKafka, *, as_json: bool) -> None:
    if as_json:
        emit_line(
            {
                "bootstrap_servers": broker.bootstrap_servers,
                "cluster_id": broker.cluster_id,
                "data": broker.data,
                "log": broker.log,
                "pid": broker.pid,
            }
        )
        return
    note(f"[bold]Kafka[/] answers at [bold]{broker.bootstrap_servers}[/]; Ctrl-C stops it.")
    note(f"  records  {escape(str(broker.data))}\n  log      {escape(str(broker.log))}")
    note(f"  clients  export KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}")
