"""Pages escape what they show, and every value of a template is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tunestream.reporting.html import render_page

PACKAGE = "acme_reports"


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The templates of a package of its own."""
    path = tmp_path_factory.mktemp("packages")
    folder = path / PACKAGE / "templates"
    folder.mkdir(parents=True)
    (path / PACKAGE / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        yield folder
    sys.modules.pop(PACKAGE, None)


VALUES = {"title": "a <b>", "status": "good", "word": "&", "sentence": "'s", "tiles": [("1 <", "arms")]}


def test_a_page_escapes_every_value(templates: Path) -> None:
    (templates / "one.html.j2").write_text(
        '{% extends "page.html.j2" %}{% block body %}<p>{{ found }}</p>{{ picture|safe }}{% endblock %}'
    )
    page = render_page(PACKAGE, "one.html.j2", found="<script>", picture="<svg></svg>", **VALUES)
    assert "<title>a &lt;b&gt;</title>" in page
    assert "<p>&lt;script&gt;</p><svg></svg>" in page
    assert '<span class="badge good">&amp;</span>' in page
    assert "<b>1 &lt;</b><span>arms</span>" in page
    assert page.startswith("<!doctype html>")


def test_a_page_may_load_nothing(templates: Path) -> None:
    (templates / "two.html.j2").write_text('{% extends "page.html.j2" %}')
    assert "default-src 'none'" in render_page(PACKAGE, "two.html.j2", **VALUES)


def test_a_value_that_is_not_given_is_an_error(templates: Path) -> None:
    (templates / "three.html.j2").write_text("{{ missing }}")
    with pytest.raises(UndefinedError, match="missing"):
        render_page(PACKAGE, "three.html.j2")
