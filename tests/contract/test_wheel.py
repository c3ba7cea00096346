"""What ``pip install tunestream`` installs, seen from an environment without the checkout."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.wheel import build_wheel, environment_without_checkout, install_wheel
from tunestream.topics import SERVICES

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "tunestream": ROOT / "shared/tunestream",
    "tunestream_services": ROOT / "services/tunestream_services",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment_without_checkout(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_nothing_with_a_common_name_is_installed(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    (metadata,) = {name for name in top if name.endswith(".dist-info")}
    assert top - {metadata} == PACKAGES.keys()


def test_every_file_of_the_packages_is_installed(wheel: Path) -> None:
    wanted = {
        f"{package}/{path.relative_to(folder)}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names(wheel)
    assert "tunestream/py.typed" in wanted


def test_entry_points_are_those_of_the_project(wheel: Path, project: dict[str, Any]) -> None:
    parser = ConfigParser(delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        parser.read_string(archive.read(name).decode())
    wanted = {"console_scripts": project["scripts"]} | project.get("entry-points", {})
    assert {group: dict(parser[group]) for group in parser.sections()} == wanted


def test_packages_are_found_in_the_environment_alone(scripts: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.util as u\n"
        "for name in ('tunestream', 'tunestream_services', 'services', 'shared', 'tools'):\n"
        "    spec = u.find_spec(name)\n"
        "    print(name, spec and spec.origin)"
    )
    done = run(scripts / "python", "-P", "-c", code, cwd=tmp_path)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {name for name, origin in found.items() if origin != "None"} == PACKAGES.keys(), done.stderr
    assert all(Path(found[name]).is_relative_to(scripts.parent) for name in PACKAGES)


def test_the_command_runs(scripts: Path, tmp_path: Path, project: dict[str, Any]) -> None:
    done = run(scripts / "tunestream", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_a_service_is_its_own_among_a_projects_modules(scripts: Path, tmp_path: Path) -> None:
    """It gets as far as its settings, one of which is wrong: no broker is needed to see that."""
    marker = tmp_path / "imported"
    for folder in ("services", "services/trainer"):
        (tmp_path / folder).mkdir()
        for name in ("__init__.py", "app.py"):
            (tmp_path / folder / name).write_text(f"open({str(marker)!r}, 'w').close()\n")
    done = subprocess.run(
        [scripts / "tunestream", "service", "run", "trainer"],
        cwd=tmp_path,
        env=environment_without_checkout() | {"TUNESTREAM_COMMIT_INTERVAL_MS": "0"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "TUNESTREAM_COMMIT_INTERVAL_MS" in done.stderr
    assert not marker.exists()


def test_no_name_of_the_former_package_is_left() -> None:
    former = re.compile(rf"(?<![\w./])services\.({'|'.join(name.replace('-', '_') for name in SERVICES)})\b")
    roots = ("shared", "services", "tests", "tools", "examples", "deploy", "docs")
    files = [path for root in roots for path in (ROOT / root).rglob("*") if path.is_file()]
    files += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "docker-compose.yml")]
    files += [ROOT / "pyproject.toml"]
    texts = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".sh", ""}
    left = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in files
        if path.suffix in texts and (found := former.search(path.read_text("utf-8", errors="replace")))
    ]
    assert not left
