"""What all sections of a run's configuration have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator

__all__ = ["AddedIn", "EnvName", "FreeForm", "Section", "added", "kind_of", "kind_or"]


class Section(BaseModel):
    """A section: unknown keys are refused, instances are immutable, numbers are finite.

    A section's kind is written ``_type`` and read as ``_type`` or ``type``.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
        validate_by_alias=True,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class AddedIn:
    """Marks a setting that a format added: the release before refuses a record that holds it.

    At its default it is left out of the ``runs`` topic, so that a release can be rolled back, and so that the
    digests of configurations stay what they were.
    """

    format: int


def added(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """Yield each setting that a format added: its path, the format, and whether it is at its default."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        marks = [mark for mark in field.metadata if isinstance(mark, AddedIn)]
        for mark in marks:
            yield (*path, name), mark.format, value == field.get_default(call_default_factory=True)
        if not marks and isinstance(value, BaseModel):
            yield from added(value, (*path, name))


def kind_or(default: str) -> Discriminator:
    """Choose a section's class by its ``_type``, or ``default`` when it gives none."""
    return Discriminator(lambda value: kind_of(value, default=default))


def kind_of(value: Any, *, default: str) -> str | None:
    """Return a section's ``_type``; None for what is no section."""
    if isinstance(value, dict):
        return str(value.get("_type", value.get("type", default)))
    return getattr(value, "type", None)


_ENV_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LIKE_A_KEY: Final = re.compile(r"(AKIA|ASIA)[A-Z0-9]{16}")
_SECRET_KEY: Final = re.compile(
    r"(^|_)(token|secret|passwo?r?d|api_?key|access_?key|credentials?)$", re.IGNORECASE
)


def _check_env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value) or _LIKE_A_KEY.fullmatch(value):
        raise ValueError(
            "write the NAME of an environment variable (capitals, digits, _), never the secret itself"
        )
    return value


EnvName = Annotated[str, AfterValidator(_check_env_name)]


def _check_free_form(value: dict[str, Any]) -> dict[str, Any]:
    for key in _secrets(value):
        raise ValueError(f"{key!r} holds a secret; a run's file names environment variables instead")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("may hold only what JSON can: text, finite numbers, booleans, lists, maps") from None
    return value


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str) and inner and _SECRET_KEY.search(str(key)):
                yield str(key)
            yield from _secrets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner)


FreeForm = Annotated[dict[str, Any], AfterValidator(_check_free_form)]
