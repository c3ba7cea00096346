"""Servers follow what is promoted: the development server and fakes of vLLM and SGLang, with their faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from tests.helpers.devserver import chat
from tests.helpers.fake_model_server import FakeModelServer
from tests.helpers.promotions import Promotions, until
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.serving import ServingConfig
from tunestream.serving import AdapterFolders, Load, ModelServer, ServerFault, Unload
from tunestream.serving.updater import ServingUpdater, Timing

QUICK = Timing(check_seconds=0.05, retry_seconds=0.1, request_seconds=30, update_seconds=60)


@dataclass
class Site:
    run: Promotions
    updater: ServingUpdater

    async def settled(self) -> None:
        await until(lambda: self.updater.settled, lambda: f"settled; {self.updater.warnings()}")
        assert self.updater.warnings() == []

    async def warned(self, *words: str) -> None:
        def told() -> bool:
            return any(all(word in text for word in words) for text in self.updater.warnings())

        await until(told, lambda: f"a warning of {words}; there are {self.updater.warnings()}")


@asynccontextmanager
async def site(tmp_path: Path, *servers: dict[str, Any], **options: Any) -> AsyncIterator[Site]:
    store = ArtifactStore(options.pop("store", str(tmp_path / "store")))
    shared = options.pop("shared", None)
    run = Promotions(store, tmp_path / "weights", *servers, **options)
    async with ServingUpdater(run, AdapterFolders(store, shared), QUICK) as updater:
        yield Site(run, updater)


def sample(name: str, url: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(f"tunestream_serving_{name}", {"run": "run", "server": url, **labels})
    return 0.0 if found is None else found


def has(server: FakeModelServer, name: str) -> Callable[[], bool]:
    return lambda: name in server.adapters


def lists(server: FakeModelServer, adapters: dict[str, str]) -> Callable[[], bool]:
    return lambda: server.adapters == adapters


@pytest.fixture(params=["vllm", "sglang", "devserver"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """The serving section of a server that has loaded nothing yet."""
    if request.param == "devserver":
        yield {"url": request.getfixturevalue("policy_url")}
        return
    async with FakeModelServer(request.param) as fake:
        yield {"url": fake.url, "kind": request.param}


async def test_a_server_follows_promotions_and_rollbacks(
    server: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    real = "kind" not in server
    weights = request.getfixturevalue("adapter")(4) if real else None
    url = server["url"]

    async def listed() -> dict[str, str]:
        cards = (await client.get("/v1/models")).raise_for_status().json()["data"]
        return {card["id"]: card["root"] for card in cards if card["parent"] is not None}

    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        site(tmp_path, server, weights=weights) as here,
    ):
        run = here.run
        for name, beside in [("v1", []), ("v2", ["v1"]), ("v3", ["v2"]), ("v1", ["v3"]), ("v3", ["v1"])]:
            asked = run.promote(name)
            expected = {f"player@{each}": run.path(each) for each in [name, *beside]}

            async def there(expected: dict[str, str] = expected) -> bool:
                return await listed() == expected

            await until(there, f"{sorted(expected)} are listed")
            await here.settled()
            assert sample("in_sync", url) == 1
            if real:
                answer = (await client.post("/v1/chat/completions", json=chat(asked, temperature=0))).json()
                assert (answer["model"], answer["choices"][0]["message"]["content"]) == (asked, "4")
        assert sample("update_seconds_count", url) == 4, "all but the first, which was there at the start"
        assert sample("drifts_total", url) == 0
        if real:
            for name in await listed():
                await client.post("/v1/unload_lora_adapter", json={"lora_name": name})


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


async def test_a_dead_server_holds_up_nobody_and_is_caught_up(fake: FakeModelServer, tmp_path: Path) -> None:
    async with FakeModelServer() as other:
        fake.stop()
        async with site(tmp_path, {"url": fake.url}, {"url": other.url}) as here:
            for name in ("v1", "v2", "v3"):
                asked = here.run.promote(name)
                await until(has(other, asked), f"{asked} on the living one")
            await here.warned(fake.url, "should serve player@v3", "no answer")
            assert sample("in_sync", fake.url) == 0
            assert sample("faults_total", fake.url, reason="unreachable") > 0
            fake.start()
            await here.settled()
            assert set(fake.adapters) == {"player@v3", "player@v2"}, "v1 was never loaded"
            assert sample("in_sync", fake.url) == 1


async def test_a_server_that_comes_back_empty_is_an_alarm_and_is_filled(
    fake: FakeModelServer, tmp_path: Path
) -> None:
    async with site(tmp_path, {"url": fake.url}) as here:
        here.run.promote("v1")
        await until(lambda: "player@v1" in fake.adapters, "v1 is loaded")
        await here.settled()
        fake.adapters.clear()
        await until(lambda: sample("drifts_total", fake.url) == 1, "the drift is counted")
        await until(lambda: "player@v1" in fake.adapters, "v1 is loaded again")
        await here.settled()
        fake.adapters["player@v1"] = "/somewhere/else"
        await until(lambda: sample("drifts_total", fake.url) == 2, "other weights are a drift")
        await until(lambda: fake.adapters["player@v1"] == here.run.path("v1"), "its own weights")


async def test_a_server_that_lies_is_found_out(fake: FakeModelServer, tmp_path: Path) -> None:
    fake.lies = True
    async with site(tmp_path, {"url": fake.url}) as here:
        here.run.promote("v1")
        await here.warned("player@v1", "does not list as it should")
        assert sample("in_sync", fake.url) == 0
        assert sample("faults_total", fake.url, reason="not_served") > 0
        fake.lies = False
        await here.settled()
        assert sample("in_sync", fake.url) == 1


async def test_a_server_that_stumbles_is_asked_again(fake: FakeModelServer, tmp_path: Path) -> None:
    fake.statuses = [503, 500, 429]
    async with site(tmp_path, {"url": fake.url}) as here:
        here.run.promote("v1")
        await until(lambda: "player@v1" in fake.adapters, "v1 is loaded")
        await here.settled()
        assert fake.asked.count("POST /v1/load_lora_adapter player@v1") == 4


@pytest.mark.parametrize(
    ("changes", "section", "words"),
    [
        ({"runtime": False}, {}, ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]),
        ({}, {"adapter_root": "/nowhere"}, ["404", "No adapter found for /nowhere/trees/"]),
        ({"api_key": "key"}, {}, ["401", "api_key_env"]),
        ({"api_key": "key"}, {"api_key_env": "SERVER_KEY"}, ["no SERVER_KEY"]),
        ({"kind": "sglang"}, {"kind": "sglang", "adapter_root": "/nowhere"}, ["400", "/nowhere"]),
        ({"kind": "sglang"}, {}, ["/v1/load_lora_adapter"]),
    ],
    ids=["no routes", "not mounted", "no key", "no variable", "not mounted, sglang", "wrong kind"],
)
async def test_a_refusal_names_the_remedy(
    changes: dict[str, Any], section: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    async with (
        FakeModelServer(**changes) as fake,
        site(tmp_path, {"url": fake.url, **section}) as here,
    ):
        here.run.promote("v1")
        await here.warned("player@v1", *words)
        assert fake.adapters == {}


async def test_a_key_is_sent_and_never_told(
    fake: FakeModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SERVER_KEY", "wrong-secret")
    fake.api_key = "right-secret"
    async with site(tmp_path, {"url": fake.url, "api_key_env": "SERVER_KEY"}) as here:
        here.run.promote("v1")
        await here.warned("401")
        told = " ".join(here.updater.warnings())
        monkeypatch.setenv("SERVER_KEY", "right-secret")
        await here.settled()
    assert "player@v1" in fake.adapters
    assert "secret" not in caplog.text + told


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_the_stable_name_follows_the_current_version(kind: Any, tmp_path: Path) -> None:
    section = {"kind": kind, "stable_name": True, "keep_previous": 0}
    async with (
        FakeModelServer(kind) as fake,
        site(tmp_path, {"url": fake.url, **section}) as here,
    ):
        for name in ("v1", "v2", "v1"):
            asked = here.run.promote(name)
            both = {asked, "player"}
            await until(lists(fake, dict.fromkeys(both, here.run.path(name))), f"{both} are those of {name}")
            await here.settled()
        taken_away = any(asked.endswith("/unload_lora_adapter player") for asked in fake.asked)
        assert taken_away == (kind == "sglang")


async def test_what_is_done_already_is_no_fault(fake: FakeModelServer, tmp_path: Path) -> None:
    for kind in ("vllm", "sglang"):
        fake.stop()
        fake.kind = kind
        fake.start()
        config = ServingConfig(url=fake.url, kind=kind)
        async with ModelServer(config, timeout=30) as server:
            await server.perform(Load("player@v1", str(tmp_path)))
            await server.perform(Load("player@v1", str(tmp_path)))
            await server.perform(Unload("player@v1"))
            await server.perform(Unload("player@v1"))
            with pytest.raises(ServerFault, match="nowhere"):
                await server.perform(Load("player@v1", "/nowhere"))


async def test_what_others_loaded_is_left_alone(fake: FakeModelServer, tmp_path: Path) -> None:
    fake.adapters |= {"player@of-another-run": "/a", "other": "/b"}
    async with site(tmp_path, {"url": fake.url, "keep_previous": 0}) as here:
        for name in ("v1", "v2"):
            here.run.promote(name)
            await until(has(fake, f"player@{name}"), "it is loaded")
            await here.settled()
    assert set(fake.adapters) == {"player@of-another-run", "other", "player@v2"}


async def test_an_earlier_version_without_weights_is_left_out(fake: FakeModelServer, tmp_path: Path) -> None:
    async with site(tmp_path, {"url": fake.url}) as here:
        here.run.promote("v1")
        await until(lambda: "player@v1" in fake.adapters, "v1 is loaded")
        here.run.store.delete(here.run.versions["v1"].artifact.uri)
        here.run.promote("v2")
        await until(lambda: set(fake.adapters) == {"player@v2"}, "v2 alone is loaded")
        await here.settled()
        here.run.store.delete(here.run.versions["v2"].artifact.uri)
        await here.warned("the weights of version v2 are not in the artifact store")


async def test_a_remote_store_is_copied_for_the_servers(fake: FakeModelServer, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    sections = [{"url": fake.url, "keep_previous": 0}]
    async with site(tmp_path, *sections, store="memory://serving", shared=shared) as here:
        for name in ("v1", "v2"):
            here.run.promote(name)
            await until(has(fake, f"player@{name}"), "it is loaded")
            await here.settled()
        assert fake.adapters == {"player@v2": str(shared / "run" / "v2")}
        await until(lambda: [each.name for each in (shared / "run").iterdir()] == ["v2"], "old copies go")
        assert (shared / "run" / "v2" / "note.txt").read_text() == "v2"


async def test_a_remote_store_needs_a_shared_folder(fake: FakeModelServer, tmp_path: Path) -> None:
    async with site(tmp_path, {"url": fake.url}, store="memory://serving") as here:
        here.run.promote("v1")
        await here.warned("TUNESTREAM_TRAINER_SERVING_FOLDER")


async def test_a_run_that_is_not_ours_any_more_is_let_alone(fake: FakeModelServer, tmp_path: Path) -> None:
    async with site(tmp_path, {"url": fake.url}) as here:
        here.run.promote("v1")
        await until(lambda: sample("in_sync", fake.url) == 1, "v1 is served")
        here.run.targets = lambda: iter(())  # type: ignore[method-assign]
        here.run.changed.set()
        labels = {"run": "run", "server": fake.url}
        gauge = "tunestream_serving_in_sync"
        await until(lambda: REGISTRY.get_sample_value(gauge, labels) is None, "its gauge is gone")
        assert "player@v1" in fake.adapters
        assert here.updater.warnings() == []


async def test_a_changed_section_is_taken_up(fake: FakeModelServer, tmp_path: Path) -> None:
    async with site(tmp_path, {"url": fake.url, "kind": "sglang"}) as here:
        here.run.promote("v1")
        await here.warned("/load_lora_adapter")
        here.run.serve({"url": fake.url, "kind": "vllm"})
        await until(has(fake, "player@v1"), "the other routes are taken")
        await here.settled()
        async with FakeModelServer() as other:
            here.run.serve({"url": other.url})
            await until(has(other, "player@v1"), "the other server has it")
            await here.settled()
            assert fake.adapters == {"player@v1": here.run.path("v1")}, "the one that was left is left alone"
