"""A child's program that does what each call asks for, also what a program should not do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tunestream.events.base import Wire
from tunestream.trainers.worker.lines import CallRefused
from tunestream.trainers.worker.program import Program


class Echo(Wire):
    """Answer with the text, printed before on both outputs."""

    type: Literal["echo"] = "echo"
    text: str
    printed: str = ""


class Think(Wire):
    """Answer after a while."""

    type: Literal["think"] = "think"
    seconds: float


class Raise(Wire):
    """Fail without an answer."""

    type: Literal["raise"] = "raise"
    message: str


class Exit(Wire):
    """End the process in mid-call."""

    type: Literal["exit"] = "exit"
    code: int


class Large(Wire):
    """Answer with so many characters."""

    type: Literal["large"] = "large"
    characters: int


class Spawn(Wire):
    """Answer with the pid of a process that was started and lives on."""

    type: Literal["spawn"] = "spawn"


class MakeFile(Wire):
    """Answer with the path of a file that is made in the scratch folder."""

    type: Literal["make"] = "make"


class Input(Wire):
    """Answer with what a library would read from standard input."""

    type: Literal["input"] = "input"


class Text(Wire):
    """The answer."""

    type: Literal["text"] = "text"
    text: str


Call = Annotated[Echo | Think | Raise | Exit | Large | Spawn | MakeFile | Input, Field(discriminator="type")]
Reply = Text | CallRefused
CALLS: TypeAdapter[Call] = TypeAdapter(Call)
REPLIES: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="type")])
PROGRAM = Program(runner="tests.helpers.child_runner", serves="calls", name="the child")


def answer(call: Call, scratch: Path) -> Reply:
    """Do what the call asks for."""
    return Text(text=_text(call, scratch))


def _text(call: Call, scratch: Path) -> str:
    match call:
        case Echo():
            if call.printed:
                print(call.printed)
                print(call.printed, file=sys.stderr)
            return call.text
        case Think():
            time.sleep(call.seconds)
            return "thought"
        case Raise():
            raise RuntimeError(call.message)
        case Exit():
            os._exit(call.code)
        case Large():
            return "x" * call.characters
        case Spawn():
            return str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        case MakeFile():
            (scratch / "made").touch()
            return str(scratch / "made")
        case Input():
            return sys.stdin.read()
