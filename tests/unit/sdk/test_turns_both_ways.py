"""A turn makes exactly the same pairs, whichever way it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.collecting import Collecting
from tests.unit.domain.gate.test_core import configuration
from tunestream.config.run.run import RunConfig
from tunestream.domain.effects import Effects
from tunestream.domain.turns.core import PairBuilder, event_of
from tunestream.domain.turns.group_rules import GroupRules
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import model_of
from tunestream.sdk import Turn
from tunestream.sdk.event_records import NativeEvent, native_record

CALL: dict[str, Any] = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": "{}"}}],
}
ANSWER = {"role": "assistant", "content": "a"}
TEXTS = st.sampled_from(["a", "b", "c", "é\n", ""])
RESPONSES = TEXTS | st.sampled_from([CALL, CALL | {"content": "so"}, ANSWER])
PROMPTS = st.sampled_from(
    [
        "p",
        [{"role": "user", "content": "p"}],
        [{"role": "user", "content": "p"}, ANSWER],
        [{"role": "user", "content": "p"}, CALL],
    ]
)
TOOL = {"type": "function", "function": {"name": "look"}}
VERSIONS = st.none() | st.sampled_from(["v1", "v2"])
CANDIDATES = st.fixed_dictionaries(
    {
        "response": RESPONSES,
        "score": st.sampled_from([-1.0, 0.0, 0.005, 0.5, 0.5000001, 1e12]),
        "index": st.none() | st.integers(0, 3),
        "token_ids": st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=2),
        "policy_version": VERSIONS,
        "metadata": st.none() | st.fixed_dictionaries({"é": st.integers()}),
    }
)
TURNS = st.fixed_dictionaries(
    {
        "prompt": PROMPTS,
        "policy_version": VERSIONS,
        "tools": st.none() | st.just([TOOL]),
        "prompt_token_ids": st.none() | st.just([1, 2]),
    }
)
BUILDERS = st.fixed_dictionaries(
    {
        "exhaustive_pairs": st.booleans(),
        "max_pairs_per_turn": st.none() | st.integers(1, 3),
        "min_score_diff": st.sampled_from([0.0, 0.01]),
        "reward_from_score_diff": st.booleans(),
    }
)


@settings(max_examples=60)
@given(TURNS, st.lists(CANDIDATES, max_size=6), BUILDERS, st.booleans())
def test_the_pairs_are_the_same(
    turn: dict[str, Any], candidates: list[dict[str, Any]], builder: dict[str, Any], announced: bool
) -> None:
    expected = len(candidates) if announced and candidates else None
    sent = Turn("r", "e", "t", expected=expected, **turn)
    for number, candidate in enumerate(candidates):
        sent.candidate(candidate_id=str(number), **candidate)
    config = configuration().model_copy(
        update={"trajectory_builder": configuration().trajectory_builder.model_copy(update=builder)}
    )
    whole = [sent.whole()] if candidates else []
    assert groups(config, whole) == groups(config, sent.events())


def groups(config: RunConfig, events: Iterable[NativeEvent]) -> list[dict[str, Any]]:
    """Return what collector and pair builder make of what an agent publishes, but for what closed it."""
    collecting, effects = Collecting(config), Effects()
    rules = GroupRules.of(config.trajectory_builder)
    pairs = PairBuilder(lambda _run, _digest: rules)
    for event in events:
        record = native_record(event, source="/tests", time=0)
        for kind, value in collecting.take(Envelope.from_headers(record.headers).type, record.value or b""):
            model = model_of(kind)
            assert model is not None
            body: Any = model.model_validate_json(value)
            pairs.handle(event_of(body), time=1, config_digest=config.digest, raw=value, effects=effects)
    assert collecting.refused == []
    assert pairs.open_turns == 0
    made = [json.loads(output.encoded()) for output in effects.outbound if "group" in output.type]
    return [{name: value for name, value in body.items() if name != "closed_by"} for body in made]
