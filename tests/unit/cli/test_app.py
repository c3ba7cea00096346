"""The frame of the command: help, exit codes, streams, laziness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from rich.markup import render
from typer.testing import CliRunner

from tunestream.cli import app, output
from tunestream.cli.app import COMMANDS, load
from tunestream.cli.errors import Failure, TryAgain, failure_of

runner = CliRunner()


def tunestream(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunestream", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys, tunestream.cli\n"
        "try: tunestream.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'faststream', 'aiokafka', 'trl', 'jgo', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_listed_help_is_the_commands_own(name: str) -> None:
    if find_spec(f"tunestream.cli.{COMMANDS[name][0]}") is None:
        pytest.skip("not written yet")
    assert (load(name).help or "").splitlines()[0] == COMMANDS[name][1]


def helps(command: Any) -> Iterator[str]:
    """Yield every text of a command's help, and of the commands in it."""
    yield command.help or ""
    yield from (parameter.help or "" for parameter in command.params)
    for inner in getattr(command, "commands", {}).values():
        yield from helps(inner)


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_in_brackets_is_lost_from_help(name: str) -> None:
    for text in helps(load(name)):
        assert render(text).plain == text


def test_usage_errors_exit_2() -> None:
    assert tunestream("no-such-command").returncode == 2
    assert tunestream("run", "show").returncode == 2


def test_shell_completion_offers_commands() -> None:
    done = tunestream(_TUNESTREAM_COMPLETE="complete_bash", COMP_WORDS="tunestream pu", COMP_CWORD="1")
    assert done.stdout.split() == ["publish"]


def test_shell_completion_reaches_into_lazy_commands() -> None:
    done = tunestream(_TUNESTREAM_COMPLETE="complete_bash", COMP_WORDS="tunestream run ap", COMP_CWORD="2")
    assert done.stdout.split() == ["apply"]


@pytest.mark.parametrize(
    "command",
    ["upgrade show", "streams seek pair-builder ttc.candidates 0 latest", "up --only trainer", "run list"],
)
def test_a_broker_that_is_away_is_one_sentence_with_a_remedy(command: str, tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)] if command.startswith("up ") else []
    done = tunestream(*command.split(), *data, "--brokers", "127.0.0.1:1")
    assert done.returncode == 3
    error, remedy = done.stderr.splitlines()
    assert error == "error: No Kafka broker answers at 127.0.0.1:1: the connection was refused"
    assert remedy.startswith("→ Start one (tunestream up")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("no"), 1),
        (TryAgain("later"), 3),
        (KafkaConnectionError("refused"), 3),
        (ConnectionRefusedError("refused"), 3),
        (TimeoutError(), 3),
        (TopicAuthorizationFailedError("runs"), 1),
        (FileNotFoundError(2, "No such file or directory", "run.yaml"), 1),
    ],
)
def test_exit_code_of_an_error(error: Exception, code: int) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.exit_code == code


@pytest.mark.parametrize("error", [ValueError("a bug"), typer.Exit(1), BrokenPipeError()])
def test_other_errors_are_not_explained_away(error: Exception) -> None:
    assert failure_of(error) is None


def test_the_remedy_is_said_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(app: typer.Typer) -> None:
        @app.command("status")
        def status() -> None:
            raise TryAgain("the [broker] is away", remedy="Start it.")

        app.command("other")(lambda: None)

    monkeypatch.setattr("tunestream.cli.status.register", fail)
    result = runner.invoke(app, ["status"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert "error: the [broker] is away" in result.stderr
    assert "Start it." in result.stderr


def test_json_is_neither_wrapped_nor_styled(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "[bold]" + "long " * 100}]
    output.show(rows, as_json=True, columns=["text"])
    assert json.loads(capsys.readouterr().out) == rows


def test_no_rows_is_an_empty_array_or_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([], as_json=True, columns=["a"])
    assert capsys.readouterr().out == "[]\n"
    output.show([], as_json=False, columns=["a"], empty="no runs")
    assert capsys.readouterr() == ("", "no runs\n")


def test_cells_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([{"a": "[red]x", "b": None}], as_json=False, columns=["a", "b"])
    assert "[red]x" in capsys.readouterr().out


def test_tables_are_not_folded_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([{"a": "long " * 60, "b": "end"}], as_json=False, columns=["a", "b"])
    assert len(capsys.readouterr().out.splitlines()) == 2
