"""What a server should list, and the steps that lead there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.runs import run_config
from tunestream.events.models import Artifact, CurrentModel, ModelStatus, ModelVersion
from tunestream.serving import Desired, Load, Unload, plan, serves, targets

NAMES = [f"m@{number}" for number in range(5)] + ["m", "theirs", "base"]
names = st.sampled_from(NAMES)
paths = st.sampled_from(["/a", "/b", None])
listed = st.dictionaries(names, paths, max_size=6)


@st.composite
def desires(draw: st.DrawFn) -> Desired:
    wanted = draw(st.lists(st.sampled_from(NAMES[:6]), min_size=1, max_size=4, unique=True))
    stable = draw(st.integers(1, len(wanted)))
    owned = frozenset(draw(st.sets(st.sampled_from(NAMES[:5]))))
    return Desired(
        tuple(wanted[:stable]), {name: draw(st.sampled_from(["/a", "/b"])) for name in wanted}, owned
    )


def take(step: Load | Unload, loaded: dict[str, str | None], *, in_place: bool) -> None:
    """Do as the servers do, errors included."""
    if isinstance(step, Unload):
        del loaded[step.name]
        return
    assert step.replace == (step.name in loaded)
    assert in_place or not step.replace
    loaded[step.name] = step.path


@given(desires(), listed, st.booleans())
def test_the_steps_lead_there_and_nowhere_else(
    desired: Desired, before: dict[str, str | None], in_place: bool
) -> None:
    loaded = dict(before)
    for step in plan(desired, before, in_place=in_place):
        take(step, loaded, in_place=in_place)
    assert serves(desired, loaded, list(desired.names))
    assert plan(desired, loaded, in_place=in_place) == []
    unwanted = {name for name in before if name in desired.owned and name not in desired.names}
    assert set(loaded) == (set(before) | set(desired.names)) - unwanted
    for name in set(before) - set(desired.names) - unwanted:
        assert loaded[name] == before[name], "what is not ours is left alone"


@given(desires(), listed)
def test_in_place_somebody_can_always_be_asked(desired: Desired, before: dict[str, str | None]) -> None:
    """The current version is loaded before anything is unloaded, and never taken away."""
    loaded = dict(before)
    kinds = []
    for step in plan(desired, before):
        take(step, loaded, in_place=True)
        kinds.append(isinstance(step, Unload))
        if isinstance(step, Unload):
            assert serves(desired, loaded)
    assert kinds == sorted(kinds)


@given(desires(), listed)
def test_what_is_right_is_not_touched(desired: Desired, before: dict[str, str | None]) -> None:
    touched = {step.name for step in plan(desired, before)}
    assert not touched & {name for name in desired.names if serves(desired, before, [name])}


def test_other_weights_under_a_name_are_no_match() -> None:
    desired = Desired(("m@1",), {"m@1": "/a"}, frozenset())
    assert plan(desired, {"m@1": "/b"}) == [Load("m@1", "/a", replace=True)]
    assert plan(desired, {"m@1": "/b"}, in_place=False) == [Unload("m@1"), Load("m@1", "/a")]
    assert plan(desired, {"m@1": None}) == [], "a server that tells no paths is believed"


def version(name: str, number: int, status: ModelStatus, minutes: int = 0) -> ModelVersion:
    return ModelVersion(
        run_id="run",
        version=name,
        number=number,
        base_model="base",
        artifact=Artifact(uri=f"artifact://trees/{name}", sha256=name, kind="adapter"),
        parent=None,
        job_id=f"job-{name}",
        batch_id=f"batch-{name}",
        config_digest="digest",
        status=status,
        created=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes),
    )


@pytest.mark.parametrize(("keep", "expected"), [(0, []), (1, ["c"]), (2, ["c", "b"]), (9, ["c", "b", "a"])])
def test_versions_that_were_current_stay_the_latest_first(keep: int, expected: list[str]) -> None:
    """The one that was current just before comes first, whatever its number; rejected ones never do."""
    config = run_config(
        "run",
        target_model="m",
        serving=[{"url": "http://one", "keep_previous": keep}, {"url": "http://two", "keep_previous": 0}],
    )
    versions = [
        version("a", 1, ModelStatus.RETIRED),
        version("b", 2, ModelStatus.RETIRED),
        version("c", 1, ModelStatus.RETIRED),
        version("d", 2, ModelStatus.PROMOTED),
        version("e", 3, ModelStatus.REJECTED),
        version("f", 3, ModelStatus.CANDIDATE),
    ]
    pointer = CurrentModel(run_id="run", version="d", generation=4, previous="c")
    one, two = targets(config, pointer, {each.version: each for each in versions})
    assert (one.name, [each.version for each in one.previous]) == ("m@d", expected)
    assert two.previous == ()
    assert one.owned == {f"m@{name}" for name in "abcdef"}


def test_a_pointer_that_is_ahead_of_its_version_waits() -> None:
    config = run_config("run", serving=[{"url": "http://one"}])
    pointer = CurrentModel(run_id="run", version="d", generation=1)
    assert list(targets(config, pointer, {})) == []
