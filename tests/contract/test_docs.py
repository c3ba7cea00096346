"""What the pages name exists: commands, options, make targets, variables, metrics, files, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from typer.core import TyperCommand, TyperGroup

from tools.docs.service_tables import METRICS, SETTINGS, service_settings, variable_of
from tunestream.cli.app import COMMANDS, load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(?<![\w./-])tunestream (?P<words>[a-z]+(?: [a-z]+)?)(?P<rest>[^`\n#]*)")
CODE = re.compile(r"```(?:bash|text)\n(.*?)```|`([^`\n]+)`", re.DOTALL)
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<heading>[^)]+))?\)")


@pytest.fixture(params=PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def code(page: Path) -> Iterator[str]:
    for block, inline in CODE.findall(page.read_text("utf-8")):
        yield block or inline


def test_commands_and_options_exist(page: Path) -> None:
    for text in code(page):
        for match in COMMAND.finditer(text):
            name, _, second = match["words"].partition(" ")
            assert name in COMMANDS, match[0]
            command: TyperCommand | TyperGroup | None = load(name)
            if isinstance(command, TyperGroup) and (second or not command.invoke_without_command):
                assert second in command.commands, match[0]
                found = command.commands[second]
                assert isinstance(found, TyperCommand)
                command = found
            assert command is not None
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", match["rest"])) <= known, match[0]


def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {match for text in code(page) for match in re.findall(r"(?<![\w-])make ([a-z-]+)", text)}
    assert named <= targets


def test_variables_are_read() -> None:
    classes: list[type[BaseSettings]] = [*SETTINGS, *service_settings().values()]
    known = {variable_of(cls, field) for cls in classes for field in cls.model_fields}
    for page in PAGES:
        named = set(re.findall(r"\bTUNESTREAM_[A-Z_]+[A-Z]\b(?!_)", page.read_text("utf-8")))
        assert named <= known, page


def test_metrics_exist() -> None:
    found = (getattr(module, name) for module in METRICS for name in module.__all__)
    families = [next(iter(metric.collect())) for metric in found]
    known = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    known |= {f"{family.name}_bucket" for family in families if family.type == "histogram"}
    for page in PAGES:
        named = set(re.findall(r"\btunestream_(?!services\b)[a-z_]+\b", page.read_text("utf-8")))
        assert named <= known, page


def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(page.read_text("utf-8")):
        if "://" in match["path"]:
            continue
        target = (page.parent / match["path"]).resolve() if match["path"] else page
        assert target.exists(), match[0]
        if match["heading"]:
            assert match["heading"] in headings(target), match[0]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_paths_named_in_code_exist() -> None:
    pattern = re.compile(r"^(?:docs|examples|tests|shared|services|deploy|tools)/[\w./-]+$")
    for page in PAGES:
        made = set(re.findall(r"`([\w./-]+)` \(new\)", page.read_text("utf-8")))  # by the reader
        for text in code(page):
            if pattern.match(text) and text not in made:
                assert (ROOT / text).exists(), f"{page}: {text}"


def test_every_command_is_on_the_front_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert {name for name in COMMANDS if f"tunestream {name}" not in text} <= {"demo", "kafka", "topics"}
