"""One reading of the tools that a model was offered, for every way in: those of the OpenAI chat API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunestream.events.base import NotKept, check_kept
from tunestream.events.messages import Tools
from tunestream.rows.messages import MessageError, kind_of

__all__ = ["tools_of"]

_SHOWN: Final = 40


def tools_of(value: object, field: str) -> Tools | None:
    """Read definitions of tools; absent ones, and none at all, are None.

    A definition is ``{"type": "function", "function": {"name": …}}``. Fields that are null are left out, what
    else a definition has stays as it is: chat templates render all of it.

    Raises:
        MessageError: when it is no list of such definitions; it names the field.
    """
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise MessageError(field, f"is {kind_of(value)}; send a list of tools")
    return [_tool(item, f"{field}.{number}") for number, item in enumerate(value)]


def _tool(item: object, field: str) -> dict[str, Any]:
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(function, Mapping):
        raise MessageError(
            f"{field}.function", 'is missing; send {"type": "function", "function": {"name": …}}'
        )
    kind = item.get("type")
    if kind not in (None, "function"):
        raise MessageError(f"{field}.type", f"is {str(kind)[:_SHOWN]!r}; only functions can be called")
    _check_function(function, f"{field}.function")
    tool = {"type": "function", **_present(item), "function": _present(function)}
    try:
        check_kept(tool)
    except NotKept as error:
        raise MessageError(field, str(error)) from error
    return tool


def _check_function(function: Mapping[str, Any], field: str) -> None:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise MessageError(f"{field}.name", f"is {kind_of(name)}; name the function")
    description, parameters = function.get("description"), function.get("parameters")
    if not isinstance(description, str | None):
        raise MessageError(f"{field}.description", f"is {kind_of(description)}; send text")
    if not isinstance(parameters, Mapping | None):
        raise MessageError(f"{field}.parameters", f"is {kind_of(parameters)}; send a JSON schema")


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
