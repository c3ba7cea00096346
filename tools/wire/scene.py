"""Where the story of the examples takes place: the run, the game, the agent, the prompt and its tools."""

from __future__ import annotations

from typing import Any, Final

from tunestream.config.run.run import RunConfig
from tunestream.events.messages import OpenAIMessage

__all__ = [
    "AGENT",
    "BASE",
    "CONFIG",
    "EXAMPLE",
    "PARTITION",
    "POLICY",
    "PROMPT",
    "RUN",
    "TIME",
    "TOOLS",
    "TURN",
    "stored_at",
]

TIME: Final = 1_767_323_045_678  # 2026-01-02T03:04:05.678Z
RUN, EXAMPLE, TURN = "tic-tac-toe", "game-17", "turn-3"
AGENT: Final = "/agents/1"
PARTITION: Final = 2
POLICY: Final = "7d3c7c8f9f0f4d3a8a5b2f1e6c9d0b4a"
BASE: Final = "Qwen/Qwen2.5-0.5B-Instruct"
CONFIG: Final = RunConfig.model_validate(
    {
        "run_id": RUN,
        "target_model": "player",
        "trajectory_builder": {"_type": "dpo_traj_builder", "exhaustive_pairs": False},
        "trainer": {"_type": "trl", "model": {"hf_model_ckpt": BASE}},
    }
)
PROMPT: Final = [
    OpenAIMessage(role="system", content="You play X. Answer with a field from 1 to 9."),
    OpenAIMessage(role="user", content="X O _\n_ X _\n_ _ O"),
]
TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": "play",
            "description": "Play a field.",
            "parameters": {
                "type": "object",
                "properties": {"field": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["field"],
            },
        },
    }
]


def stored_at(sha256: str) -> str:
    """Return where the artifact store has a body with a digest."""
    return f"artifact://objects/{sha256[:2]}/{sha256}"
