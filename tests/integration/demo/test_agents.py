from __future__ import annotations

import asyncio
from collections import defaultdict

from pydantic import BaseModel

from tunestream.config.settings import KafkaSettings
from tunestream.demo import game
from tunestream.demo.agents import Arena, Throttle, play_forever
from tunestream.demo.policy_client import Policy, PolicyClient
from tunestream.demo.publishing import publishing_of
from tunestream.demo.recipes import RECIPES
from tunestream.events.training import Objective
from tunestream.events.ttc import TTCEpisode, TTCExampleEnd
from tunestream.events.turns import TTCTurn
from tunestream.sdk import TTCPublisher
from tunestream.streams.admin import apply_topics
from tunestream.streams.reading import RecordReader, stored_events

TEST_PROMPTS = {game.prompt(board) for board in game.test_boards()}
BOARDS = {game.prompt(board): board for board in game.boards()}


async def play(settings: KafkaSettings, url: str, turns: int, objective: Objective) -> Arena:
    async with PolicyClient(url) as client, TTCPublisher(settings, source="/test") as publisher:
        publishing = publishing_of(RECIPES[objective])
        arena = Arena("run", client, Policy("player", "v7"), publisher, publishing, Throttle(10**6))
        playing = asyncio.create_task(play_forever(arena, agents=16, seed=3))
        while arena.turns < turns and not playing.done():
            await asyncio.wait({playing}, timeout=0.05)
        playing.cancel()
        await asyncio.wait({playing})
    return arena


async def published(settings: KafkaSettings) -> list[BaseModel | None]:
    async with RecordReader(settings, "ttc.events", from_beginning=True) as reader:
        return [stored.body async for stored in stored_events(reader.to_end())]


async def test_agents_publish_four_scored_answers_and_never_a_test_board(
    kafka_settings: KafkaSettings, policy_url: str
) -> None:
    await apply_topics(kafka_settings)
    arena = await asyncio.wait_for(play(kafka_settings, policy_url, 120, Objective.DPO), 240)
    events = await published(kafka_settings)

    turns = [event for event in events if isinstance(event, TTCTurn)]
    assert len(turns) >= 120
    assert arena.held_out_turns > 0
    for turn in turns:
        prompt, candidates = str(turn.prompt), turn.candidates
        assert prompt not in TEST_PROMPTS
        assert len({str(candidate.response) for candidate in candidates}) == 4
        assert [candidate.candidate_index for candidate in candidates] == [0, 1, 2, 3]
        assert turn.policy_version == "v7"
        assert [each.score for each in candidates] == [
            game.reward(BOARDS[prompt], str(each.response)) for each in candidates
        ]
    finished = {event.example_id for event in events if isinstance(event, TTCExampleEnd)}
    assert len(finished) >= arena.games > 0


async def test_agents_publish_groups_of_episodes_with_the_logprobs_of_what_was_said(
    kafka_settings: KafkaSettings, policy_url: str
) -> None:
    await apply_topics(kafka_settings)
    await asyncio.wait_for(play(kafka_settings, policy_url, 40, Objective.GRPO), 240)

    groups: dict[str, list[TTCEpisode]] = defaultdict(list)
    for event in await published(kafka_settings):
        assert isinstance(event, TTCEpisode)
        groups[event.example_id].append(event)
    whole = [group for group in groups.values() if len(group) == 8]
    assert len(whole) >= 40
    for episodes in whole:
        assert len({episode.episode_id for episode in episodes}) == 8
        (prompt,) = {episode.items[0].content for episode in episodes}
        assert prompt not in TEST_PROMPTS
        assert {episode.policy_version for episode in episodes} == {"v7"}
        for episode in episodes:
            _, said = episode.items
            assert episode.reward == game.reward(BOARDS[prompt], said.content)
            assert isinstance(said.logprobs, dict)
            (token,) = said.logprobs["content"]
            assert token["logprob"] < 0
            assert token["token"] == said.content or token["token"].startswith("<|")
    assert any(len({episode.items[1].content for episode in group}) < 8 for group in whole)
