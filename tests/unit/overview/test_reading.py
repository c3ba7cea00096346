"""Facts as they are read, without a broker."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.helpers.runs import run_config
from tunestream.overview.facts import BaseModelFacts, ServiceAnswer
from tunestream.overview.read.base_models import read_base_models
from tunestream.overview.read.machine import read_disks, read_store
from tunestream.overview.read.packages import installed_packages, wrong_packages
from tunestream.overview.read.services import ask


def test_the_packages_of_this_project_fit() -> None:
    assert list(wrong_packages()) == []
    assert "aiokafka" in installed_packages()


def test_wrong_packages_are_named() -> None:
    needed = ["pydantic>=99", "no-such-package>=1", 'no-such-extra>=1; extra == "x"', "typer>=0.1"]
    problems = list(wrong_packages(needed))
    assert len(problems) == 2
    assert problems[0].endswith("pydantic>=99 is needed")
    assert problems[1].startswith("no-such-package is not installed")


async def asked(pages: dict[str, httpx.Response]) -> ServiceAnswer:
    def answer(request: httpx.Request) -> httpx.Response:
        return pages.get(request.url.path, httpx.Response(404, text="no such page"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await ask(client, "trainer", "http://trainer")


async def test_what_a_service_answers() -> None:
    health = {"ok": False, "reasons": ["partition 3: waits"], "warnings": ["a server"]}
    found = await asked(
        {
            "/health/ready": httpx.Response(503, json=health),
            "/info": httpx.Response(200, json={"broker": "b:1", "prefix": "p.", "service": "trainer"}),
            "/metrics": httpx.Response(200, text="tunestream_state 1"),
        }
    )
    assert found == ServiceAnswer(
        "trainer",
        "http://trainer",
        answers=True,
        reasons=("partition 3: waits",),
        warnings=("a server",),
        broker="b:1",
        prefix="p.",
        metrics="tunestream_state 1",
    )


async def test_an_older_service_shows_no_deployment_and_something_else_is_not_ready() -> None:
    older = await asked({"/health/ready": httpx.Response(200, json={"ok": True, "reasons": []})})
    assert (older.ready, older.broker, older.prefix) == (True, None, None)
    other = await asked({"/health/ready": httpx.Response(200, text="<html>")})
    assert (other.answers, other.broker) == (True, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def model(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")
    return folder


WHOLE = ("config.json", "tokenizer.json", "model.safetensors")


async def base_model(name: object) -> BaseModelFacts:
    trainer = {"_type": "trl", "model": {"hf_model_ckpt": str(name)}}
    (found,) = await read_base_models([run_config("r", trainer=trainer)], is_here=True)
    return found


@pytest.mark.parametrize("missing", WHOLE)
async def test_a_folder_needs_all_files_of_a_model(folder: Path, missing: str) -> None:
    assert (await base_model(model(folder / "whole", *WHOLE))).problem is None
    part = await base_model(model(folder / "part", *(name for name in WHOLE if name != missing)))
    assert part.problem is not None
    assert missing.split(".", maxsplit=1)[0].replace("model", "weights") in part.problem


async def test_a_folder_that_is_not_there(folder: Path) -> None:
    assert (await base_model(folder / "none")).problem == f"there is no folder {folder / 'none'}"
    assert (await base_model("./none")).problem == "there is no folder ./none"


async def test_a_model_of_the_hub_that_is_on_this_machine(folder: Path) -> None:
    model(folder / "hub/models--who--what/snapshots/1", *WHOLE)
    assert (await base_model("who/what")).problem is None
    other = (await base_model("who/else")).problem
    assert other == "who/else is not on this machine, and HF_HUB_OFFLINE is set"


@pytest.mark.parametrize(
    ("status", "words"),
    [(200, None), (302, None), (404, "answers 404"), (401, "HF_TOKEN"), (None, "cannot be reached")],
)
async def test_the_hub_is_asked_for_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, words: str | None
) -> None:
    def head(url: str, **_: object) -> httpx.Response:
        assert url == "http://hub/who/what/resolve/main/config.json"
        if status is None:
            raise httpx.ConnectError("no route")
        return httpx.Response(status)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub/")
    monkeypatch.setattr(httpx, "head", head)
    problem = (await base_model("who/what")).problem
    assert problem is None if words is None else words in str(problem)


async def test_a_trainer_without_a_base_model_has_none() -> None:
    trainer = {"_type": "openpipe_art_trainer_adapter", "backend": {"ip": "h", "port": 1}}
    builder = {"_type": "openpipe_art_traj_builder"}
    run = run_config("r", trainer=trainer, trajectory_builder=builder)
    assert await read_base_models([run], is_here=True) == []


def test_the_store_is_written_and_left_as_it_was(tmp_path: Path) -> None:
    assert read_store(str(tmp_path / "artifacts/here")).problem is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "artifacts").mkdir()
    assert read_store(str(tmp_path / "artifacts")).problem is None
    assert list((tmp_path / "artifacts").iterdir()) == []
    (tmp_path / "file").touch()
    for name in ("file", "file/artifacts"):
        assert "directory" in str(read_store(str(tmp_path / name)).problem).lower()


def test_a_store_of_an_unknown_kind_is_named() -> None:
    assert "nosuch" in str(read_store("nosuch://bucket").problem)


def test_each_disk_is_looked_at_once(tmp_path: Path) -> None:
    (disk,) = read_disks([tmp_path, tmp_path / "not/there/yet"])
    assert disk.folder == str(tmp_path)
    assert 0 < disk.free <= disk.total
