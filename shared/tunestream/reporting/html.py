"""Pages from Jinja templates; a page loads nothing from anywhere."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_page"]

_SHARED: Final = "tunestream.reporting"


def render_page(package: str, template: str, **values: Any) -> str:
    """Return a page as HTML.

    Args:
        package: whose folder ``templates`` holds the template; it may extend those of this package.
        template: the file's name.
        values: what the template shows, escaped unless it is marked as safe there.

    Raises:
        UndefinedError: when the template names a value that is not given.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra

    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_SHARED)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
