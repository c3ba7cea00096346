"""Which backends there are, and those that a trainer service keeps open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import run_config
from tests.helpers.trainer_plugin import install_trainer
from tunestream.config.run.plugins import NotInstalled
from tunestream.config.run.trainers import TrainerSection
from tunestream.trainers import (
    Backend,
    Start,
    TrainerBackend,
    TrainingFailed,
    find_backend,
    is_infrastructure,
    open_backend,
)
from tunestream_services.trainer.backends import Backends

NEMO = {
    "_type": "nemo_customizer_trainer_adapter",
    "entity_host": "http://nemo",
    "datastore_host": "http://store",
    "namespace": "games",
    "customization_config": "llama",
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in install_trainer(tmp_path / "site-packages"):
        monkeypatch.syspath_prepend(place)


def section(**trainer: Any) -> TrainerSection:
    return run_config("run", trainer=trainer).trainer


def command(*words: str) -> TrainerSection:
    return section(_type="command", command=list(words))


def test_runs_share_a_backend_where_they_reach_the_same_backend() -> None:
    nemo, trl = find_backend(NEMO["_type"]), find_backend("trl")
    assert nemo.shares(section(**NEMO)) == nemo.shares(section(**NEMO, max_pairs=3))
    assert nemo.shares(section(**NEMO)) != nemo.shares(section(**{**NEMO, "namespace": "chess"}))
    one, two = (section(_type="trl", model={"hf_model_ckpt": name}) for name in ("a", "b"))
    assert trl.shares(one) == trl.shares(two), "one worker on a machine"
    own = find_backend("command")
    assert own.shares(command("a")) == own.shares(command("a"))
    assert own.shares(command("a")) != own.shares(command("b"))


@pytest.mark.parametrize(
    ("trainer", "local"),
    [
        ({"_type": "trl", "model": {"hf_model_ckpt": "a"}}, True),
        (NEMO, False),
        ({"_type": "command", "command": ["a"]}, True),
    ],
)
def test_where_jobs_train(trainer: dict[str, Any], local: bool) -> None:
    assert find_backend(trainer["_type"]).is_local(section(**trainer)) is local


def test_an_unknown_backend_and_one_that_is_none() -> None:
    with pytest.raises(NotInstalled, match="'nobody' is unknown"):
        find_backend("nobody")


def test_which_faults_get_another_attempt() -> None:
    again = ("worker_died", "service_unreachable", "unhealthy", "backend_error", "internal")
    assert all(map(is_infrastructure, again))
    ends = ("empty_dataset", "unauthorized", "service_refused", "refused", "no_backend", "what_nobody_knows")
    assert not any(map(is_infrastructure, ends))


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (TrainingFailed("out_of_memory", "too large"), "out_of_memory"),
        (ValueError("nothing to train on"), "refused"),
        (RuntimeError("a bug"), "backend_error"),
    ],
)
def test_a_backend_that_cannot_be_opened_has_a_reason(raised: Exception, code: str) -> None:
    def fail(_config: TrainerSection, _artifacts: str) -> Backend:
        raise raised

    with pytest.raises(TrainingFailed) as caught:
        open_backend(TrainerBackend(config=TrainerSection, open=fail), command("a"), "")
    assert caught.value.code == code
    assert str(raised) in caught.value.message


@pytest.mark.parametrize(
    ("trainer", "start"),
    [({"_type": "trl", "model": {"hf_model_ckpt": "a"}}, Start.HEAD), (NEMO, Start.BASE)],
)
def test_from_which_weights_jobs_start(trainer: dict[str, Any], start: Start) -> None:
    assert find_backend(trainer["_type"]).start_of(section(**trainer)) is start


async def test_backends_are_kept_and_shared_until_they_are_closed(tmp_path: Path) -> None:
    backends = Backends(str(tmp_path))
    async with backends.use(command("a")) as one, backends.use(command("a")) as same:
        assert one is same
        async with backends.use(command("b")) as other:
            assert other is not one
    async with backends.use(command("a")) as again:
        assert again is one
        await backends.discard(one)
    async with backends.use(command("a")) as new:
        assert new is not one
    await backends.close()


async def test_backends_that_nobody_used_for_long_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Backend] = []

    async def close(backend: Backend) -> None:
        closed.append(backend)

    monkeypatch.setattr(type(open_backend(find_backend("command"), command("a"), "")), "close", close)
    backends = Backends(str(tmp_path))
    async with backends.use(command("in use")):
        async with backends.use(command("oldest")) as oldest:
            pass
        for number in range(15):
            async with backends.use(command(str(number))):
                pass
        assert closed == [], "what is in use does not count"
    assert closed == [oldest]
