"""Rows to tokens: answers that are messages."""

from __future__ import annotations

import json
from typing import Any

from tunestream.events.dataset import PreferenceRow
from tunestream.events.messages import ChatMessage, Response, ToolCall, ToolFunction
from tunestream.trainers.trl.rows import tokenise_preferences

CALL = ChatMessage(
    role="assistant", content="", tool_calls=[ToolCall(function=ToolFunction(name="f", arguments="{}"))]
)


class Letters:
    """A tokenizer whose tokens are letters, with a template that shows messages as they are, or none."""

    eos_token = "."

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert add_special_tokens is (self.chat_template is None)
        return {"input_ids": [list(map(ord, text)) for text in texts]}

    def apply_chat_template(self, messages: list[Any], **_: Any) -> str:
        return "".join(json.dumps(message) for message in messages)


def row(chosen: Response, rejected: Response = "no") -> PreferenceRow:
    return PreferenceRow(
        group_id="g",
        example_id="e",
        turn_id="t",
        prompt="q",
        chosen=chosen,
        rejected=rejected,
        chosen_score=1.0,
        rejected_score=0.0,
        reward=1.0,
    )


def test_a_template_is_given_the_whole_message() -> None:
    examples = tokenise_preferences([row(CALL), row("yes")], Letters("some"), None)
    calling, plain = ("".join(map(chr, one.chosen_ids)) for one in examples.usable)
    assert '"tool_calls": [{"' in calling
    assert "yes" in plain


def test_without_a_template_what_is_more_than_text_is_left_out() -> None:
    rows = [row(CALL), row(ChatMessage(role="assistant", content="yes"))]
    examples = tokenise_preferences(rows, Letters(None), None)
    assert dict(examples.skipped) == {"no_chat_template": 1}
    assert "".join(map(chr, examples.usable[0].chosen_ids)) == "yes."
