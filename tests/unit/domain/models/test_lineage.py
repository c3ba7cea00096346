"""From datasets to turns and from versions to versions."""

from __future__ import annotations

from tests.helpers import tiny_model
from tests.helpers.versions import version
from tunestream.domain.models.lineage import ancestry, descendants, turns_of
from tunestream.events.dataset import EpisodeRow, ResponseRow
from tunestream.events.trajectories import EpisodeItem, EpisodeItemRole

VERSIONS = {
    one.version: one
    for one in (version("a"), version("b", parent="a"), version("c", parent="b"), version("d", parent="a"))
}


def test_descent_goes_both_ways() -> None:
    assert list(ancestry("c", VERSIONS)) == ["c", "b", "a"]
    assert descendants({"b"}, VERSIONS) == ["c"]
    assert descendants({"a"}, VERSIONS) == ["b", "c", "d"]
    assert descendants(set(), VERSIONS) == []


def test_rows_are_counted_by_their_turns() -> None:
    first, second = tiny_model.rows(2)
    again = first.model_copy(update={"group_id": "g9", "policy_version": "v1"})
    episode = EpisodeRow(
        group_id="g",
        example_id="e",
        items=[EpisodeItem(role=EpisodeItemRole.USER, content="u")],
        reward=1.0,
    )
    turns = turns_of([first, None, second, again, ResponseRow(prompt="p", response="r"), episode])
    assert list(turns) == [("e0", "t"), ("e1", "t"), ("e", "")]
    one = turns["e0", "t"]
    assert (one.rows, one.group_ids, one.policy_versions) == (2, ["g0", "g9"], ["v1"])
