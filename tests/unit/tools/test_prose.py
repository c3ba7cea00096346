"""The check of the pages' prose finds what it promises to find, and nothing in code."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.prose import findings_in_pages, findings_in_source
from tools.prose.index import kinds, pages
from tools.prose.rules import MOST_WORDS, synonyms
from tools.prose.text import lines_of_page, passages_of_module, sentences_of_page

ROOT = Path(__file__).parents[3]
INDEX = """# Pages

## Tutorial

- [Overview](../README.md): all.
- [Contributing](../CONTRIBUTING.md): how.

## Guides

- [Do it](do.md): one thing.

## Reference

- [Glossary](glossary.md): names.
"""
GLOSSARY = """| name | what | where | not |
| --- | --- | --- | --- |
| **turn** | One prompt. | `x` | round trip, exchange |
| **job** | One batch. | `x` |  |
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    files = {"docs/README.md": INDEX, "docs/glossary.md": GLOSSARY, "docs/do.md": "# Do it\n\nDo this.\n"}
    for name, text in {**files, "README.md": "# A\n", "CONTRIBUTING.md": "# B\n"}.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def problems(site: Path, text: str, page: str = "docs/do.md") -> list[str]:
    (site / page).write_text(text, "utf-8")
    return [str(finding) for finding in findings_in_pages(site)]


def test_a_clean_site_has_no_findings(site: Path) -> None:
    assert findings_in_pages(site) == []


def test_a_word_of_the_list_is_found_with_its_line_and_remedy(site: Path) -> None:
    (found,) = problems(site, "# Do it\n\nThe page shows it.\nThe log tells more.\n")
    assert found == "docs/do.md:4: 'tells'; use: report, log, show, return"


@pytest.mark.parametrize(
    "text",
    [
        "Run `tell me` now.",
        "```bash\ntell me\n```",
        "<!-- generated: x -->\nit says so\n<!-- /generated -->",
        "Text.\n\n    tell me\n",
        "A storyteller.",
    ],
    ids=["inline", "fence", "generated", "indented", "part of a word"],
)
def test_code_and_generated_text_are_left_out(site: Path, text: str) -> None:
    assert problems(site, f"# Do it\n\n{text}\n") == []


def test_a_synonym_that_the_glossary_forbids_is_found_in_every_page(site: Path) -> None:
    (found,) = problems(site, "# A\n\nEvery exchange counts.\n", "README.md")
    assert found == "README.md:3: 'exchange'; use: turn"


@pytest.mark.parametrize(("words", "count"), [(MOST_WORDS, 0), (MOST_WORDS + 1, 1)])
def test_a_sentence_of_a_guide_has_a_limit(site: Path, words: int, count: int) -> None:
    sentence = " ".join(["word"] * words)
    assert len(problems(site, f"# Do it\n\nA start. {sentence.capitalize()}.\n")) == count
    assert len(problems(site, f"| a | {sentence} |\n")) == count


def test_the_limit_holds_over_lines_and_not_over_items(site: Path) -> None:
    half = " ".join(["word"] * 20)
    assert len(problems(site, f"# Do it\n\n{half}\n{half}.\n")) == 1
    assert problems(site, f"# Do it\n\n- {half}\n- {half}\n") == []


def test_a_reference_page_has_no_limit(site: Path) -> None:
    (site / "docs/README.md").write_text(INDEX.replace("## Reference\n", "## Reference\n\n- [R](r.md): x.\n"))
    assert problems(site, " ".join(["word"] * 60), "docs/r.md") == []


def test_a_page_that_the_index_lacks_or_names_twice_is_found(site: Path) -> None:
    (found,) = problems(site, "# New\n", "docs/new.md")
    assert found.startswith("docs/new.md:1: no kind")
    (site / "docs/README.md").write_text(INDEX + "- [New](new.md): x.\n- [New](new.md): x.\n")
    assert len(findings_in_pages(site)) == 1


def test_links_count_as_their_text_and_images_not_at_all() -> None:
    (sentence,) = sentences_of_page("See [the page](a/very/long.md) ![a picture of it](b.png).")
    assert sentence.text.split() == ["See", "the", "page", "."]


@pytest.mark.parametrize("text", ["A b. C d.", "**A b.** C d.", "(A b.) C d.", "A b? `c` d.", "A b.\nC d."])
def test_a_sentence_ends_at_a_full_stop(text: str) -> None:
    assert len(list(sentences_of_page(text))) == 2


def test_an_abbreviation_ends_no_sentence() -> None:
    assert len(list(sentences_of_page("Use a name, e.g. this one, i.e. that."))) == 1


def test_lines_keep_their_numbers_behind_code() -> None:
    lines = list(lines_of_page("a\n\n```\nb\nc\n```\n\nd\n"))
    assert [(line.line, line.text) for line in lines] == [(1, "a"), (8, "d")]


def test_a_module_has_docstrings_texts_and_comments_with_their_lines(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text('"""First.\n\nIt says."""\n\ntell = "a text"  # told\n', "utf-8")
    found = {(line, text) for line, text in passages_of_module(module) if text}
    assert found == {(1, "First."), (3, "It says."), (5, "a text"), (5, "# told")}


def test_all_of_the_code_can_be_listed(tmp_path: Path) -> None:
    module = tmp_path / "shared/m.py"
    module.parent.mkdir()
    module.write_text('"""It says."""\n', "utf-8")
    (found,) = findings_in_source(tmp_path, everywhere=True)
    assert str(found).startswith("shared/m.py:1: 'says'; use: ")


def test_a_module_of_data_is_left_out(tmp_path: Path) -> None:
    module = tmp_path / "shared/tunestream/experiments/qa/words.py"
    module.parent.mkdir(parents=True)
    module.write_text('STOP_WORDS = "just very"\n', "utf-8")
    (module.parent / "other.py").write_text('"""It says."""\n', "utf-8")
    (found,) = findings_in_source(tmp_path, everywhere=True)
    assert found.path.name == "other.py"


def test_the_list_names_files_that_exist() -> None:
    settings = tomllib.loads((ROOT / "tools/prose/words.toml").read_text("utf-8"))
    assert [name for name in settings["source"] + settings["data"] if not (ROOT / name).exists()] == []


def test_rooms_that_keep_the_list_pass() -> None:
    assert [str(finding) for finding in findings_in_source(ROOT)] == []


def test_the_pages_of_this_repository_pass() -> None:
    assert [str(finding) for finding in findings_in_pages(ROOT)] == []
    assert {path for places in kinds(ROOT).values() for path in places} == set(pages(ROOT))


def test_the_glossary_names_modules_that_exist() -> None:
    named = set(re.findall(r"`(tunestream[\w.]*)`", (ROOT / "docs/glossary.md").read_text("utf-8")))
    assert len(named) > 10
    assert {name for name in named if find_spec(name) is None} == set()


def test_no_name_of_the_glossary_is_the_synonym_of_another() -> None:
    names = set(
        re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text("utf-8"), re.MULTILINE)
    )
    assert names.isdisjoint(synonyms(ROOT))
    assert set(synonyms(ROOT).values()) <= names
