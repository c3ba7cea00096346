"""Text that can be written: UTF-8 holds no half of a character."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunestream.rows.values import find_surrogate

__all__ = ["check_text"]


def check_text(body: str, fields: dict[str, object]) -> None:
    """Refuse fields with a lone surrogate, such as a half of an emoji that was cut in two.

    Args:
        body: name of the class that the fields are of.
        fields: plain values by name, searched at any depth, names included.

    Raises:
        pydantic.ValidationError: naming the field.
    """
    try:
        found = find_surrogate(fields)
    except RecursionError:  # refused for its depth by the body itself
        return
    if found is None:
        return
    field, half = found
    problem = PydanticCustomError("not_text", "not text: lone surrogate {half}", {"half": half})
    detail = InitErrorDetails(type=problem, loc=tuple(field.split(".")), input=half)
    raise ValidationError.from_exception_data(body, [detail])
