"""The requests in docs/serving.md work as they stand."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"


def requests() -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Return route and body of every curl command."""
    (block,) = re.findall(r"<!-- tested: curl -->\n+```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for command in block.strip().split("\n\n"):
        words = shlex.split(command)
        assert words[0] == "curl"
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        yield words[1].removeprefix("http://localhost:8000"), body


async def test_the_requests_of_the_page_work(policy_url: str, adapter: Callable[[int], Path]) -> None:
    answers: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=policy_url, timeout=60) as client:
        for route, body in requests():
            if body is None:
                answer = await client.get(route)
            else:
                ours = {"lora_path": str(adapter(1))} if "lora_path" in body else {}
                answer = await client.post(route, json=body | ours)
            assert answer.status_code == 200, answer.text
            answers[route] = answer
    assert len(answers["/v1/chat/completions"].json()["choices"]) == 2
    assert len(answers["/v1/completions"].json()["choices"]) == 2
    assert "removed" in answers["/v1/unload_lora_adapter"].text
