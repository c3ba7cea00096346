"""What tests ask the development server."""

from __future__ import annotations

from typing import Any

__all__ = ["PROMPT", "chat"]

PROMPT = "me 2 op / 4 5 6 / 7 8 op ; win - block 6"


def chat(model: str = "player", **fields: Any) -> dict[str, Any]:
    """A request for one token of chat."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1, **fields}
