"""``tunestream pairs`` and ``tunestream curriculum`` over files and the standard streams."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.helpers.strategies import install_strategy
from tunestream.cli import app

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return to_file


@pytest.fixture
def config(write: Write) -> str:
    return write("run.yaml", "trajectory_builder: {ttc_step_name: move}\n")


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def candidate(
    score: object, output: object, *, example: str = "ex", turn: str = "t", at: float = 1.0, **data: Any
) -> str:
    payload = {
        "event_type": "TTC_END",
        "event_timestamp": at,
        "name": "move",
        "UUID": f"{example}-{turn}-{output}",
        "data": {"input": "p", "output": output, "turn_id": turn, "score": score, **data},
    }
    return json.dumps({"example_id": example, "step": {"payload": payload}}) + "\n"


def end(example: str = "ex") -> str:
    return json.dumps({"example_id": example, "step": {"payload": {"event_type": "WORKFLOW_END"}}}) + "\n"


TURN = candidate(0.9, "good", candidate_index=0) + candidate(0.5, "bad", candidate_index=1) + end()
PAIR = {
    "example_id": "ex",
    "turn_id": "t",
    "prompt": "p",
    "chosen_response": "good",
    "rejected_response": "bad",
    "chosen_score": 0.9,
    "rejected_score": 0.5,
    "score_diff": 0.4,
    "chosen_index": 0,
    "rejected_index": 1,
    "reward": 0.4,
}


def rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("flags", [[], ["--nat-parity"]])
def test_a_pair_has_the_documented_fields_in_order(config: str, write: Write, flags: list[str]) -> None:
    result = run("pairs", "-c", config, *flags, write("in.jsonl", TURN))
    assert result.exit_code == 0, result.stderr
    (row,) = rows(result.stdout)
    assert row == PAIR
    assert list(row) == list(PAIR)


def test_input_is_plain_gzipped_or_stdin_and_output_stdout_or_a_file(
    config: str, write: Write, tmp_path: Path
) -> None:
    plain = run("pairs", "-c", config, write("in.jsonl", TURN)).stdout
    assert run("pairs", "-c", config, write("in.jsonl.gz", gzip.compress(TURN.encode()))).stdout == plain
    assert run("pairs", "-c", config, "-", stdin=TURN).stdout == plain
    out = tmp_path / "out.jsonl"
    result = run("pairs", "-c", config, "-", "--output", str(out), stdin=TURN)
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text() == plain


def test_rows_for_trl(config: str) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    chat = candidate(1.0, "good", turn="chat", input=messages) + candidate(
        0.0, "bad", turn="chat", input=messages
    )
    result = run("pairs", "-c", config, "--format", "trl", "-", stdin=TURN + chat)
    assert rows(result.stdout) == [
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {
            "prompt": messages,
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
    ]


MIXED = (
    TURN
    + candidate(0.9, "same", turn="2")
    + candidate(0.5, "other", turn="2")
    + candidate(0.5, "third", turn="2")
    + candidate(1.0, "alone", turn="3")
    + candidate("much", "x", turn="4")
    + candidate(None, "y", turn="4")
)
COUNTS = {
    "lines": 9,
    "candidates": 6,
    "turns": 3,
    "pairs": 3,
    "repeats": 0,
    "skipped": {"tie": 1, "single_candidate": 1},
    "refused": {"schema.wrong_type": 1, "schema.missing": 1},
}


def test_the_summary_is_on_stderr_and_stdout_is_only_data(config: str) -> None:
    result = run("pairs", "-c", config, "-", stdin=MIXED)
    assert [row["chosen_response"] for row in rows(result.stdout)] == ["good", "same", "same"]
    table = (line.rsplit(maxsplit=1) for line in result.stderr.splitlines() if line.strip()[-1:].isdigit())
    counts = {name.strip(): int(count) for name, count in table}
    assert counts == {
        "lines": 9,
        "candidates": 6,
        "turns": 3,
        "pairs": 3,
        "repeats": 0,
        "skipped: single_candidate": 1,
        "skipped: tie": 1,
        "refused: schema.missing": 1,
        "refused: schema.wrong_type": 1,
    }


def test_the_summary_as_json(config: str, tmp_path: Path) -> None:
    to_file = run("pairs", "-c", config, "--json", "-", "-o", str(tmp_path / "out"), stdin=MIXED)
    assert json.loads(to_file.stdout) == COUNTS
    to_stdout = run("pairs", "-c", config, "--json", "-", stdin=MIXED)
    assert len(rows(to_stdout.stdout)) == 3
    assert json.loads(to_stdout.stderr.splitlines()[-1]) == COUNTS


def test_refused_candidates_are_named_by_line_and_not_endlessly(config: str) -> None:
    result = run("pairs", "-c", config, "-", stdin=TURN + candidate("[red]", "x") * 30)
    assert result.exit_code == 0
    assert "line 4: schema.wrong_type: payload.data.score" in result.stderr
    assert result.stderr.count("schema.wrong_type: payload") == 10
    assert "further refusals are only counted" in result.stderr


def test_repeats_count_once_unless_the_toolkit_counts_them(config: str) -> None:
    twice = candidate(0.9, "good") * 2 + candidate(0.5, "bad") + end()
    assert len(rows(run("pairs", "-c", config, "-", stdin=twice).stdout)) == 1
    assert len(rows(run("pairs", "-c", config, "--nat-parity", "-", stdin=twice).stdout)) == 3


@pytest.mark.parametrize(
    ("before", "late"),
    [([candidate(0.9, "good"), end()], 1.0), ([candidate(0.9, "good")], 61.0)],
    ids=["end of example", "time-out"],
)
def test_what_comes_after_the_end_is_late_except_to_the_toolkit(
    config: str, before: list[str], late: float
) -> None:
    text = "".join(before) + candidate(0.5, "bad", at=late)
    result = run("pairs", "-c", config, "-", stdin=text)
    assert rows(result.stdout) == []
    assert f"line {len(before) + 1}: late: turn 't' was closed" in result.stderr
    assert len(rows(run("pairs", "-c", config, "--nat-parity", "-", stdin=text).stdout)) == 1


def test_a_score_that_is_not_finite_is_refused_in_parity_too(config: str) -> None:
    for score in (float("nan"), float("inf")):
        result = run("pairs", "-c", config, "--nat-parity", "-", stdin=TURN + candidate(score, "x"))
        assert rows(result.stdout) == [PAIR]
        assert "line 4: non_finite: payload.data.score" in result.stderr


@pytest.mark.parametrize("flags", [[], ["--nat-parity"]])
def test_an_index_of_more_than_64_bits_is_written(config: str, flags: list[str]) -> None:
    long = TURN.replace('"candidate_index": 1', f'"candidate_index": {1 << 70}')
    assert long != TURN
    result = run("pairs", "-c", config, "-", *flags, stdin=long)
    assert str(1 << 70) in result.stdout


def test_empty_input_gives_nothing(config: str, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for source in (write("empty", ""), write("blank", "\n  \n"), write("empty.gz", gzip.compress(b""))):
        result = run("pairs", "-c", config, source, "-o", str(out), "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["lines"] == 0
        assert out.read_bytes() == b""


PACKED = gzip.compress((TURN * 3000).encode())


@pytest.mark.parametrize(
    "content", [PACKED[: len(PACKED) // 2], PACKED[:-4], b"plain", PACKED[:200] + b"\x00" * 400]
)
def test_a_damaged_gzip_file_is_said_and_leaves_no_output(
    config: str, write: Write, tmp_path: Path, content: bytes
) -> None:
    source = write("in.jsonl.gz", content)
    result = run("pairs", "-c", config, source, "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert f"{source}: is not a whole gzip file" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl.gz", "run.yaml"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ("[1]", "must be an object"),
        ('{"step": {"payload": {}}}', "field example_id is missing"),
        ('{"example_id": "", "step": {"payload": {}}}', "field example_id is missing"),
        ('{"example_id": "e"}', "field step.payload is missing"),
        ('{"example_id": "e", "step": {"payload": 3}}', "field step.payload is missing"),
        (candidate(1.0, "x").replace("1.0,", '"noon",', 1), "step.payload.event_timestamp must be seconds"),
    ],
)
def test_a_line_that_is_no_step_is_named_and_leaves_no_output(
    config: str, tmp_path: Path, line: str | bytes, reason: str
) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    result = run("pairs", "-c", config, "-", "-o", str(tmp_path / "out"), stdin=TURN.encode() + b"\n" + raw)
    assert result.exit_code == 1
    assert f"-: line 5: {reason}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_what_is_not_there_is_named(config: str, write: Write, tmp_path: Path) -> None:
    for arguments, name in [
        (("-c", config, "nowhere.jsonl"), "nowhere.jsonl"),
        (("-c", "nowhere.yaml", "-"), "nowhere.yaml"),
        (("-c", config, "-", "-o", str(tmp_path / "no" / "out")), str(tmp_path / "no" / "out")),
        (("-c", config, str(tmp_path)), str(tmp_path)),
        (("-c", config, "-", "-o", str(tmp_path)), str(tmp_path)),
    ]:
        result = run("pairs", *arguments, stdin=TURN)
        assert result.exit_code == 1
        assert f"{name}: " in result.stderr.replace("\n", ": ")


def test_a_pipe_is_written_and_not_replaced(config: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        assert run("pairs", "-c", config, "-", "-o", str(pipe), stdin=TURN).exit_code == 0
        assert rows(read.result(timeout=90)) == [PAIR]
    assert pipe.is_fifo()


def test_a_turn_makes_no_more_pairs_than_a_window_takes_except_to_the_toolkit(write: Write) -> None:
    turn = "".join(candidate(at / 10, f"r{at}") for at in range(4))
    window = "trajectory_builder: {ttc_step_name: move}\nbatching: {window_pairs: 2}\n"
    for text, flags, pairs in [
        (window, [], 2),
        (window, ["--nat-parity"], 6),
        (window.replace("move", "move, max_pairs_per_turn: 5"), [], 5),
        (window.replace("move", "move, nat_parity: true"), [], 6),
    ]:
        result = run("pairs", "-c", write("run.yaml", text), *flags, "-", stdin=turn)
        assert len(rows(result.stdout)) == pairs, result.stderr


def test_usage_errors() -> None:
    for arguments in (["pairs"], ["pairs", "x"], ["pairs", "-c", "x", "-", "--format", "y"], ["curriculum"]):
        assert run(*arguments).exit_code == 2


def test_episodes_make_no_pairs(write: Write) -> None:
    config = write("run.yaml", "trajectory_builder: {_type: openpipe_art_traj_builder}\n")
    result = run("pairs", "-c", config, "-", stdin=TURN)
    assert result.exit_code == 1
    assert "trajectory_builder._type is openpipe_art_traj_builder" in result.stderr
    assert "dpo_traj_builder" in result.stderr


def test_a_misspelt_key_of_the_configuration_is_named(write: Write) -> None:
    config = write("run.yaml", "trajectory_builder: {ttc_step_nam: move}\n")
    result = run("pairs", "-c", config, "-", stdin=TURN)
    assert result.exit_code == 1
    assert "ttc_step_nam" in result.stderr


def curriculum(write: Write, *epochs: list[list[float]], **settings: Any) -> Result:
    document = {"curriculum_learning": {"enabled": True, **settings}}
    lines = [json.dumps({"epoch": at, "group_rewards": groups}) for at, groups in enumerate(epochs)]
    return run("curriculum", "-c", write("run.yaml", yaml.safe_dump(document)), "-", stdin="\n".join(lines))


# Means .9, .3, .5, .1 and one group whose rewards are all the same.
GROUPS = [[0.8, 1.0], [0.2, 0.4], [0.5, 0.5], [0.4, 0.6], [0.0, 0.2]]


def test_the_state_is_carried_from_epoch_to_epoch(write: Write) -> None:
    result = curriculum(
        write,
        GROUPS,
        GROUPS,
        GROUPS,
        initial_percentile=0.25,
        increment_percentile=0.25,
        expansion_interval=2,
        min_reward_diff=0.1,
    )
    assert result.exit_code == 0, result.stderr

    def state(percentile: float, expanded: int, included: list[int]) -> dict[str, Any]:
        return {
            "current_percentile": percentile,
            "last_expansion_epoch": expanded,
            "total_groups": 4,
            "included_groups": included,
        }

    # The difference to the last expansion counts, which is noted as -1 at first.
    assert rows(result.stdout) == [
        {"epoch": 0, "selected_groups": [0], "state": state(0.25, -1, [0])},
        {"epoch": 1, "selected_groups": [0, 3], "state": state(0.5, 1, [0, 3])},
        {"epoch": 2, "selected_groups": [0, 3], "state": state(0.5, 1, [0, 3])},
    ]
    assert [list(row) for row in rows(result.stdout)] == [["epoch", "selected_groups", "state"]] * 3


def test_included_groups_are_positions_in_the_input(write: Write) -> None:
    result = curriculum(
        write, [[0.5, 0.5], [0.1, 0.3], [0.7, 0.9]], initial_percentile=1.0, min_reward_diff=0.1
    )
    (row,) = rows(result.stdout)
    assert row["selected_groups"] == [2, 1]
    assert row["state"]["included_groups"] == [1, 2]
    assert row["state"]["total_groups"] == 2


def test_hardest_first(write: Write) -> None:
    result = curriculum(write, GROUPS, initial_percentile=1.0, sort_ascending=True, min_reward_diff=0.1)
    assert rows(result.stdout)[0]["selected_groups"] == [4, 1, 3, 0]


def test_nothing_left_selects_nothing_and_keeps_the_state(write: Write) -> None:
    result = curriculum(write, [[0.5, 0.5], [0.1, 0.1]], [], initial_percentile=0.3)
    assert [row["selected_groups"] for row in rows(result.stdout)] == [[], []]
    assert rows(result.stdout)[1]["state"]["total_groups"] == 0


def test_the_curriculum_writes_a_file(write: Write, tmp_path: Path) -> None:
    config = write("run.yaml", "curriculum_learning: {enabled: false}\n")
    out = tmp_path / "out.jsonl"
    source = write("in.jsonl", '{"epoch": 0, "group_rewards": [[1], [2]]}\n')
    result = run("curriculum", "-c", config, source, "-o", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    assert rows(out.read_text())[0]["selected_groups"] == [0, 1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Invalid JSON"),
        ('{"epoch": -1, "group_rewards": []}', "field epoch: "),
        ('{"epoch": 0}', "field group_rewards: "),
        ('{"epoch": 0, "group_rewards": [[NaN]]}', "field group_rewards.0.0: "),
        ('{"epoch": 0, "group_rewards": [["a"]]}', "field group_rewards.0.0: "),
    ],
)
def test_a_line_that_is_no_epoch_is_named(write: Write, line: str, reason: str) -> None:
    config = write("run.yaml", "curriculum_learning: {enabled: true}\n")
    result = run("curriculum", "-c", config, "-", stdin='\n{"epoch": 0, "group_rewards": []}\n' + line)
    assert result.exit_code == 1
    assert f"-: line 3: {reason}" in result.stderr


def test_the_curriculum_runs_a_strategy_of_another_distribution(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rotating", "broken"):
        install_strategy(tmp_path, name, f"tests.helpers.strategies:{name.upper()}")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = curriculum(write, GROUPS, GROUPS, _type="rotating", groups=3)
    assert rows(result.stdout) == [
        {"epoch": 0, "selected_groups": [0, 1, 2], "state": {"next": 3}},
        {"epoch": 1, "selected_groups": [3, 4, 0], "state": {"next": 6}},
    ]
    failed = curriculum(write, GROUPS, _type="broken", chosen=[9])
    assert failed.exit_code == 1
    assert "strategy 'broken' selected [9] of 5 groups" in failed.stderr.replace("\n", " ")
