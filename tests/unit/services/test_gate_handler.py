"""The gate's handler: what it publishes of every window, and bodies in the artifact store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.inbound import KnownRuns, inbound
from tests.unit.domain.gate.test_bodies import group as compact
from tests.unit.domain.gate.test_bodies import spelt_out
from tests.unit.domain.gate.test_core import WINDOW, configuration, group
from tunestream.artifacts import ArtifactStore
from tunestream.config.run.curriculum import CurriculumLearningConfig
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects, Outbound, Refused
from tunestream.domain.gate.core import CurriculumGate
from tunestream.domain.gate.split import is_held_out
from tunestream.events.base import Wire
from tunestream.events.groups import PreferenceGroup
from tunestream.events.runs import TURN_FORMAT
from tunestream.events.training import TrainingBatch
from tunestream.events.trajectories import TrajectoryGroup, TrajectoryGroupRef
from tunestream.events.ttc import Tick
from tunestream.events.views.groups import PreferenceGroupView
from tunestream.events.windows import CurriculumWindow
from tunestream.streams.tasks.handler import Inbound, TaskContext
from tunestream_services.curriculum_gate.bodies import Bodies
from tunestream_services.curriculum_gate.handler import GateHandler

Body = TrajectoryGroup | PreferenceGroup | TrajectoryGroupRef | Tick


class Runs(KnownRuns):
    """The runs of a deployment that writes a format."""

    def __init__(self, number: int, *configs: RunConfig) -> None:
        super().__init__(*configs)
        self._number = number

    @property
    def format(self) -> int:
        return self._number


class Site:
    """A handler whose changelog is kept beside it."""

    def __init__(self, folder: Path, config: RunConfig, number: int = TURN_FORMAT) -> None:
        self.store = ArtifactStore(str(folder))
        self.runs = Runs(number, config)
        self.log: dict[bytes, bytes] = {}
        self.counts: dict[str, int] = {}
        self.handler = self.fresh()

    def fresh(self) -> GateHandler:
        gate = CurriculumGate(self.runs.config, writes=lambda: self.runs.format)
        return GateHandler(gate, self.runs, self.store, deadline=10.0)

    async def send(self, *bodies: Body, time: int = 1_000) -> list[Wire]:
        effects, records = Effects(), [record(body, time) for body in bodies]
        await self.handler.prepare(records, 0.0)
        for one in records:
            self.handler.handle(one, effects)
        await self.handler.complete(effects)
        for key, value in effects.changes.items():
            if value is None:
                self.log.pop(key, None)
            else:
                self.log[key] = value
        for name, count in effects.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        return [_published(output) for output in effects.outbound]

    async def restart(self) -> None:
        self.handler = self.fresh()
        for key, value in self.log.items():
            self.handler.restore(key, value)
        await self.handler.start(TaskContext(3, _no_transactions, 4))

    def put(self, body: TrajectoryGroup | PreferenceGroup) -> TrajectoryGroupRef:
        stored = self.store.put_bytes(body.to_json())
        return TrajectoryGroupRef(
            run_id=body.run_id,
            group_id=body.group_id,
            uri=stored.uri,
            sha256=stored.sha256,
            size=stored.size,
        )


async def _no_transactions(step: Callable[[Effects], None]) -> None:
    del step
    raise AssertionError("the gate has no events of its own")


def _published(output: Outbound) -> Wire:
    assert (output.topic, output.key) == ("training.batches", ("r",))
    assert isinstance(output.body, Wire)
    return output.body


def record(body: Body, time: int = 1_000) -> Inbound:
    """Return a record as the runtime decodes it: a view where its type has one."""
    made = inbound(body, b"r", ce_time=time)
    if isinstance(body, PreferenceGroup):
        made.value, made.body = body.to_json(), PreferenceGroupView.of(body)
    return made


def window(site: Site, **changes: Any) -> list[PreferenceGroup]:
    """Return the groups of a window, two pairs each, in the form of version 2."""
    digest = next(iter(site.runs._known))[1]
    return [
        compact(config_digest=digest, group_id=f"g{at}", example_id=f"e{at}", **changes)
        for at in range(WINDOW // 2)
    ]


def asking(body: PreferenceGroup, prompt: str) -> PreferenceGroup:
    """Return a group whose members answered another prompt."""
    return body.model_copy(update={"contexts": [body.contexts[0].model_copy(update={"prompt": prompt})]})


async def test_both_versions_of_groups_give_the_same_batch_and_dataset(tmp_path: Path) -> None:
    held_out = next(f"p{at}" for at in range(1000) if is_held_out("r", f"p{at}", 0.1))
    config = configuration(batching={"validation_fraction": 0.1})
    made = []
    forms: dict[str, Callable[[PreferenceGroup], Any]] = {"1": spelt_out, "2": PreferenceGroup.model_copy}
    for name, form in forms.items():
        site = Site(tmp_path / name, config)
        first, *others = window(site)
        batch, decided = await site.send(*map(form, (asking(first, held_out), *others)))
        assert isinstance(batch, TrainingBatch)
        made.append((batch, decided, site.store.get_bytes(batch.train.uri, batch.train.sha256)))
    assert made[0] == made[1]
    assert made[0][0].validation is not None
    assert (made[0][0].train.rows, made[0][0].validation.rows) == (4, 2)


async def test_every_window_is_published_with_what_became_of_its_groups(tmp_path: Path) -> None:
    curriculum = CurriculumLearningConfig(enabled=True, initial_percentile=0.5)
    site = Site(tmp_path, configuration(curriculum_learning=curriculum))
    first, *others = window(site, unscored=2, skipped={"tie": 3})
    flat = [one.model_copy(update={"score": 1.0}) for one in first.members]
    batch, decided = await site.send(first.model_copy(update={"members": flat}), *others)
    assert isinstance(batch, TrainingBatch)
    assert decided == CurriculumWindow(
        run_id="r",
        config_digest=batch.config_digest,
        epoch=0,
        batch_id=batch.batch_id,
        selected=["g1"],
        left_out={"low_spread": ["g0"], "percentile": ["g2"]},
        unscored=6,
        skipped={"tie": 9},
    )
    assert (batch.groups, batch.dropped) == (1, {"low_spread": 1, "percentile": 1})


async def test_a_window_without_a_batch_has_the_reason(tmp_path: Path) -> None:
    section = CurriculumLearningConfig(enabled=True, min_reward_diff=2.0)
    site = Site(tmp_path / "flat", configuration(curriculum_learning=section))
    (decided,) = await site.send(*window(site))
    assert isinstance(decided, CurriculumWindow)
    assert (decided.batch_id, decided.reason, decided.selected) == (None, "empty_selection", [])
    assert decided.left_out == {"low_spread": ["g0", "g1", "g2"]}
    assert site.counts["empty_selection"] == 1

    prompt = next(f"p{at}" for at in range(1000) if is_held_out("r", f"p{at}", 0.1))
    site = Site(tmp_path / "held-out", configuration(batching={"validation_fraction": 0.1}))
    (decided,) = await site.send(*(asking(body, prompt) for body in window(site)))
    assert isinstance(decided, CurriculumWindow)
    assert (decided.reason, decided.selected) == ("all_held_out", ["g0", "g1", "g2"])
    assert site.counts["all_held_out"] == 1
    assert not list((tmp_path / "held-out").rglob("objects/*")), "nothing is stored that nobody refers to"


async def test_the_release_before_gets_no_windows_and_no_state_that_it_does_not_know(tmp_path: Path) -> None:
    site = Site(tmp_path, configuration(), TURN_FORMAT - 1)
    published = await site.send(*map(spelt_out, window(site)))
    assert [type(body) for body in published] == [TrainingBatch]
    assert {key.split(b"/")[0] for key in site.log} == {b"run", b"epoch"}


async def test_the_ids_of_a_window_of_any_size_fit_into_its_record(tmp_path: Path) -> None:
    """Beyond what a record takes, the others are counted."""
    groups = 5_000
    site = Site(tmp_path, configuration(batching={"window_pairs": groups}))
    digest = next(iter(site.runs._known))[1]
    name = "€" * 500
    for at in range(groups):
        published = await site.send(group(f"{at}{name}"[:512], 1, digest))
    decided = published[-1]
    assert isinstance(decided, CurriculumWindow)
    assert decided.unnamed == {"selected": groups - len(decided.selected)}
    assert len(decided.selected) > 1_000
    assert len(decided.to_json()) < 3 << 20


async def test_a_group_that_comes_again_is_left_out_also_after_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path, configuration())
    first, second, third = window(site)
    assert await site.send(first, first) == []
    await site.restart()
    assert await site.send(first) == []
    (batch, _) = await site.send(second, third)
    assert isinstance(batch, TrainingBatch)
    assert (batch.groups, site.counts["dropped_duplicate"]) == (3, 2)
    await site.restart()
    assert await site.send(first, second, third) == []
    assert site.counts["dropped_duplicate"] == 5


@pytest.mark.parametrize("form", [spelt_out, lambda body: body], ids=["v1", "v2"])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_group_by_reference_is_the_group_itself(
    tmp_path: Path, form: Callable[[PreferenceGroup], Any], restart: bool
) -> None:
    plain, stored = (Site(tmp_path, configuration()) for _ in range(2))
    *most, last = [form(body) for body in window(plain)]
    expected = await plain.send(*most, last)
    assert await stored.send(*map(stored.put, most)) == []
    assert all(len(value) < 400 for key, value in stored.log.items() if key.startswith(b"group/"))
    if restart:
        await stored.restart()
    assert await stored.send(stored.put(last)) == expected


async def test_a_stored_group_that_makes_no_row_is_refused_alone(tmp_path: Path) -> None:
    site = Site(tmp_path, configuration())
    first, *_ = window(site, pairs=[(0, 9, 1.0)])
    ref, effects = record(site.put(first)), Effects()
    await site.handler.prepare([ref], 0.0)
    with pytest.raises(Refused, match="pairs 0 and 9 of 3 members"):
        site.handler.handle(ref, effects)


class SlowStore(ArtifactStore):
    """A store that counts who reads it at a time, and answers once enough do."""

    def __init__(self, url: str, wanted: int) -> None:
        super().__init__(url)
        self.reading = 0
        self.most = 0
        self.together = threading.Barrier(wanted)
        self._lock = threading.Lock()

    def get_bytes(self, uri: str, sha256: str) -> bytes:
        with self._lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
        self.together.wait(timeout=90)
        with self._lock:
            self.reading -= 1
        return super().get_bytes(uri, sha256)


async def test_bodies_are_fetched_side_by_side_and_bounded(tmp_path: Path) -> None:
    store = SlowStore(str(tmp_path), wanted=2)
    refs = {}
    for at in range(4):
        stored = store.put_bytes(b"%d" % at * 100)
        refs[at] = TrajectoryGroupRef(
            run_id="r", group_id=str(at), uri=stored.uri, sha256=stored.sha256, size=stored.size
        )
    bodies = Bodies(store, deadline=90.0, room=250)
    assert await bodies.each(refs, len) == dict.fromkeys(range(4), 100)
    assert store.most == 2, "two fit, and they do not wait for each other"


async def test_a_body_that_does_not_come_ends_the_wait(tmp_path: Path) -> None:
    store = SlowStore(str(tmp_path), wanted=2)
    stored = store.put_bytes(b"x")
    ref = TrajectoryGroupRef(run_id="r", group_id="g", uri=stored.uri, sha256=stored.sha256, size=1)
    with pytest.raises(TimeoutError):
        await Bodies(store, deadline=0.01).each({"g": ref}, len)
    await asyncio.to_thread(store.together.abort)
