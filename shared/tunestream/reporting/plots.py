"""What pictures of all reports have in common: colours, size, and the files that they become."""

from __future__ import annotations

from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ACCENT", "GRID", "INK", "MUTED", "new_figure", "remove_frame", "svg_of", "write_png"]

INK: Final = "#1f2933"
MUTED: Final = "#7b8794"
GRID: Final = "#e4e7eb"
ACCENT: Final = "#2563eb"


def new_figure(width: float, height: float, *, padding: float = 0.1) -> Figure:
    """Return an empty figure; all lengths are in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    layout = ConstrainedLayoutEngine(w_pad=padding, h_pad=padding)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def remove_frame(axes: Axes) -> None:
    """Leave labels in a quiet colour, without a frame and without ticks."""
    axes.tick_params(colors=MUTED, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.spines[:].set_visible(False)


def write_png(figure: Figure, path: Path) -> None:
    """Write a picture to a file."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=160)
    path.write_bytes(content.getvalue())


def svg_of(figure: Figure) -> str:
    """Return a picture as an ``<svg>`` element for a page; the same picture gives the same text."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    content = StringIO()
    with mpl.rc_context({"svg.hashsalt": "tunestream"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]
