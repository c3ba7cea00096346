"""``tunestream trajectories`` on a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.helpers.runs import apply_run
from tunestream.artifacts import ArtifactStore
from tunestream.config.settings import KafkaSettings
from tunestream.events.base import Wire
from tunestream.events.cloudevents import Envelope
from tunestream.events.groups import GroupContext, GroupMember, PairingRule, PreferenceGroup
from tunestream.events.messages import ChatMessage, OpenAIMessage, Prompt, Response, ToolCall, ToolFunction
from tunestream.events.registry import type_of
from tunestream.events.trajectories import (
    CloseReason,
    DPOItem,
    EpisodeItem,
    EpisodeItemRole,
    MemberScore,
    Trajectory,
    TrajectoryGroup,
    TrajectoryGroupRef,
)
from tunestream.events.ttc import Tick
from tunestream.streams.publish import EventProducer, event_record

TOOLS = [{"type": "function", "function": {"name": "look"}}]
CALL = ChatMessage(
    role="assistant",
    content="",
    tool_calls=[ToolCall(function=ToolFunction(name="look", arguments="{}"))],
)
ASKED = [OpenAIMessage(role="user", content="where?")]


def compact(prompt: Prompt, chosen: Response, rejected: Response, **context: Any) -> PreferenceGroup:
    """A group of version 2 with one pair."""
    return PreferenceGroup(
        run_id="r",
        group_id="g",
        example_id="e",
        turn_id="t",
        config_digest="d",
        closed_by=CloseReason.TURN_END,
        contexts=[GroupContext(prompt=prompt, **context)],
        members=[
            GroupMember(id="1", response=rejected, score=0.0),
            GroupMember(id="2", response=chosen, score=1.0),
        ],
        pairing=PairingRule(exhaustive=True, reward="score_diff"),
        pairs=[(1, 0, 1.0)],
    )


def expanded(trajectories: list[Trajectory], kind: Any = "preference") -> TrajectoryGroup:
    """A group of version 1."""
    return TrajectoryGroup(
        run_id="r",
        group_id="g",
        example_id="e",
        turn_id="t",
        config_digest="d",
        kind=kind,
        closed_by=CloseReason.TURN_END,
        scores=[MemberScore(id="1", index=0, score=1.0)],
        trajectories=trajectories,
    )


PLAIN = compact("p", "best", "worst")
TALKING = compact(ASKED, CALL, "no idea", tools=TOOLS)
LARGE = compact("q", "better", "worse")
OLD = expanded(
    [Trajectory(episode=[DPOItem(prompt="o", chosen_response="a", rejected_response="b")], reward=1.0)]
)
EPISODE = expanded(
    [Trajectory(episode=[EpisodeItem(role=EpisodeItemRole.USER, content="hi")], reward=1.0)], "episode"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    folder = str(tmp_path / "artifacts")
    monkeypatch.setenv("TUNESTREAM_ARTIFACTS", folder)
    return ArtifactStore(folder)


def write(settings: KafkaSettings, *bodies: Wire, run: str = "r") -> None:
    """Write to one partition of the topic, so that the order is known."""

    async def send() -> None:
        await apply_run(settings, run)
        async with EventProducer(settings) as producer:
            for number, body in enumerate(bodies):
                envelope = Envelope(id=str(number), type=type_of(body), source="/tests", time=number)
                await producer.send(event_record("trajectories", (run,), body.to_json(), envelope))

    asyncio.run(send())


def reference(store: ArtifactStore, group: PreferenceGroup) -> TrajectoryGroupRef:
    stored = store.put_bytes(group.to_json())
    return TrajectoryGroupRef(
        run_id="r", group_id="g", uri=stored.uri, sha256=stored.sha256, size=stored.size
    )


def rows(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def written(settings: KafkaSettings, store: ArtifactStore) -> KafkaSettings:
    """All kinds of groups of the run ``r``, and one of another run."""
    write(settings, PLAIN, run="another")
    write(settings, PLAIN, Tick(run_id="r"), TALKING, OLD, EPISODE, reference(store, LARGE))
    return settings


def test_a_run_is_exported_in_every_format(written: KafkaSettings, tunestream: Callable[..., Result]) -> None:
    groups: list[PreferenceGroup | TrajectoryGroup] = [PLAIN, TALKING, OLD, EPISODE, LARGE]
    records = rows(tunestream("trajectories", "export", "r", "--format", "jsonl"))
    assert records == [json.loads(group.to_json()) for group in groups]
    trajectories = rows(tunestream("trajectories", "export", "r"))
    assert trajectories == [json.loads(one.to_json()) for group in groups for one in group.trajectories]
    assert trajectories[0]["episode"] == [
        {"prompt": "p", "chosen_response": "best", "rejected_response": "worst"}
    ]
    assert rows(tunestream("trajectories", "export", "r", "--format", "trl")) == [
        {"prompt": "p", "chosen": "best", "rejected": "worst"},
        {
            "prompt": [{"role": "user", "content": "where?"}],
            "chosen": [CALL.model_dump()],
            "rejected": [{"role": "assistant", "content": "no idea"}],
            "tools": TOOLS,
        },
        {"prompt": "o", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "better", "rejected": "worse"},
    ]


def test_a_limit_and_a_time_choose(
    written: KafkaSettings, tunestream: Callable[..., Result], tmp_path: Path
) -> None:
    assert len(rows(tunestream("trajectories", "export", "r", "--limit", 2))) == 2
    assert len(rows(tunestream("trajectories", "export", "r", "--since", "1h"))) == 5
    assert rows(tunestream("trajectories", "export", "r", "--since", "2999-01-01")) == []
    refused = tunestream("trajectories", "export", "r", "--since", "yesterday", "-o", tmp_path / "none")
    assert refused.exit_code == 2
    assert "'yesterday' is no time" in refused.stderr


def test_a_file_leaves_stdout_to_the_summary(
    written: KafkaSettings, data: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    summary = data("trajectories", "export", "r", "--format", "trl", "--out", file)
    assert summary == {"run_id": "r", "groups": 5, "lines": 4, "episodes_left_out": 1}
    assert len(file.read_text("utf-8").splitlines()) == 4


def test_what_cannot_be_exported_is_refused_with_the_remedy(
    settings: KafkaSettings, store: ArtifactStore, tunestream: Callable[..., Result]
) -> None:
    unknown = tunestream("trajectories", "export", "r")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "there is no run 'r'" in unknown.stderr
    write(settings, EPISODE)
    episodes = tunestream("trajectories", "export", "r", "--format", "trl")
    assert episodes.exit_code == 1
    assert "--format dpo" in episodes.stderr
    stored = reference(store, LARGE)
    store.delete(stored.uri)
    write(settings, stored)
    missing = tunestream("trajectories", "export", "r")
    assert missing.exit_code == 1
    assert "TUNESTREAM_ARTIFACTS" in missing.stderr
