"""Asking a process whether it is alive: one that runs may still have stopped working."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

__all__ = ["answering", "until_dead"]

# One answer may be an accident.
_NO: Final = 2
_SILENT: Final = 12
_ANSWER_SECONDS: Final = 10.0


def answering(answer: httpx.Response) -> int | None:
    """Return the id of the process that gave a health page, None where the page does not show it."""
    try:
        pid = answer.json()["pid"]
    except (ValueError, KeyError, TypeError):
        return None
    return pid if isinstance(pid, int) else None


async def until_dead(url: str, interval: float) -> str:
    """Ask again and again; return why the process should be started again.

    A process that never answered is not judged: it may be starting.

    Args:
        url: of its liveness page.
        interval: seconds between two questions.

    Returns:
        What it answered, two times in a row, or that it has stopped answering.
    """
    refused = silent = 0
    answered = False
    async with httpx.AsyncClient(timeout=_ANSWER_SECONDS) as client:
        while True:
            await asyncio.sleep(interval)
            try:
                answer = await client.get(url)
            except httpx.HTTPError as error:
                silent += answered
                if silent >= _SILENT:
                    return f"{url} does not answer any more ({type(error).__name__})"
                continue
            answered, silent = True, 0
            refused = refused + 1 if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else 0
            if refused >= _NO:
                return _reasons(answer)


def _reasons(answer: httpx.Response) -> str:
    try:
        return "; ".join(answer.json()["reasons"])
    except (ValueError, KeyError, TypeError):
        return answer.text
