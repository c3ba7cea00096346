"""Pictures become files."""

from __future__ import annotations

from pathlib import Path

from tunestream.reporting.plots import new_figure, remove_frame, svg_of, write_png


def test_a_picture_is_an_element_of_a_page_or_a_file(tmp_path: Path) -> None:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    remove_frame(axes)
    assert not any(spine.get_visible() for spine in axes.spines.values())
    assert svg_of(figure).startswith("<svg")
    write_png(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
