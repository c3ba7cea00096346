"""Submitted datasets: which lines are rows, what is held out, which batch they become."""

from __future__ import annotations

import pytest

from tunestream.domain.jobs.submission import make_batch, read_submitted, split_submitted
from tunestream.events.dataset import EpisodeRow, PreferenceRow, ResponseRow
from tunestream.events.training import DatasetFile, Objective

FILE = DatasetFile(uri="artifact://objects/1", sha256="1", rows=1, size=1)


def test_each_kind_of_row_is_read_with_what_it_needs_alone() -> None:
    lines = (
        b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n\n'
        b'{"prompt": "p", "response": "a"}\n'
        b'{"items": [{"role": "user", "content": "u"}], "reward": 0.5}\n'
    )
    preference, response, episode = read_submitted(lines)
    assert isinstance(preference, PreferenceRow)
    assert isinstance(response, ResponseRow)
    assert isinstance(episode, EpisodeRow)
    assert preference.group_id != episode.group_id


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"prompt": "p"}', b'{"prompt": "p", "chosen": NaN}'])
def test_a_line_that_is_no_row_is_named(line: bytes) -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(read_submitted(b'{"prompt": "p", "response": "a"}\n' + line))


def test_the_split_is_that_of_the_run() -> None:
    rows = [ResponseRow(prompt=f"p{number}", response="r") for number in range(200)]
    train, held_out = split_submitted(rows, "run", 0.2)
    assert 0 < len(held_out) < len(train)
    assert split_submitted(held_out, "run", 0.2) == ([], held_out)
    assert split_submitted(rows, "run", 0.0) == (rows, [])


def test_a_batch_is_named_by_what_is_trained_and_how() -> None:
    rows = list(read_submitted(b'{"prompt": "p", "chosen": "a", "rejected": "b", "policy_version": "v"}'))

    def batch(digest: str, file: DatasetFile = FILE) -> str:
        return make_batch(
            "run", config_digest=digest, objective=Objective.DPO, train=file, validation=None, rows=rows
        ).batch_id

    assert batch("d") == batch("d")
    other = FILE.model_copy(update={"sha256": "2"})
    assert len({batch("d"), batch("e"), batch("d", other)}) == 3
    described = make_batch(
        "run", config_digest="d", objective=Objective.DPO, train=FILE, validation=None, rows=rows
    )
    assert (described.origin, described.policy_versions, described.unversioned_rows) == (
        "submitted",
        ["v"],
        0,
    )
