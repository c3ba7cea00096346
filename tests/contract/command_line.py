"""The commands, their arguments and their options, as a user types them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from tunestream.cli.app import COMMANDS, app, load


def commands() -> dict[str, dict[str, list[str]]]:
    """Return the arguments, in order, and the options with their choices, by the path of the command."""
    found = {"": _parameters(get_command(app))}
    for name in COMMANDS:
        found |= {path: _parameters(command) for path, command in _walk(name, load(name))}
    return dict(sorted(found.items()))


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk(f"{path} {name}", inner)


def _parameters(command: Any) -> dict[str, list[str]]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    return {
        "arguments": [f"{place} {_metavar(one)}" for place, one in enumerate(arguments, 1)],
        "options": sorted(text for option in options for text in _option(option)),
    }


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> Iterator[str]:
    takes = "" if option.is_flag else " VALUE..." if option.multiple else " VALUE"
    yield from (f"{flag}{takes}" for flag in (*option.opts, *option.secondary_opts))
    yield from (f"{option.opts[0]}={choice}" for choice in _choices(option.type))
    if option.envvar:
        yield f"{option.opts[0]} from {option.envvar}"


def _choices(kind: Any) -> list[str]:
    return [getattr(choice, "value", str(choice)) for choice in getattr(kind, "choices", ())]
