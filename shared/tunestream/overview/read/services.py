"""Asks the addresses at which services of a deployment may listen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx

from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import Deployment
from tunestream.overview.facts import ServiceAnswer, ServicesFacts

__all__ = ["ask", "read_services"]

_HTTP_SECONDS: Final = 5.0


async def read_services(
    settings: KafkaSettings,
    here: Deployment | None,
    usual: Mapping[str, str],
    members: Mapping[str, int],
) -> ServicesFacts:
    """Return what the services answer.

    Args:
        settings: of the deployment that is looked at.
        here: what ``tunestream up`` runs in this folder; its addresses are asked first.
        usual: where services listen when nobody recorded it: name → URL.
        members: processes at work, by service.
    """
    alive = here is not None and here.process.is_alive
    addresses = dict(usual)
    if here is not None and alive:
        addresses = {record.name: record.url for record in here.services}
    async with httpx.AsyncClient(timeout=_HTTP_SECONDS) as client:
        answers = await asyncio.gather(*(ask(client, name, url) for name, url in addresses.items()))
    return ServicesFacts(
        broker=settings.bootstrap_servers,
        prefix=settings.topic_prefix,
        here=here,
        alive=alive,
        answers=tuple(answers),
        members=members,
    )


async def ask(client: httpx.AsyncClient, name: str, url: str) -> ServiceAnswer:
    """Return what one address answers; any program may listen there."""
    try:
        ready = await client.get(f"{url}/health/ready")
        info = await client.get(f"{url}/info")
        metrics = (await client.get(f"{url}/metrics", follow_redirects=True)).text
    except httpx.HTTPError:
        return ServiceAnswer(name, url, answers=False)
    health, place = _document(ready), _document(info)
    return ServiceAnswer(
        name,
        url,
        answers=True,
        ready=ready.status_code == httpx.codes.OK,
        reasons=tuple(map(str, health.get("reasons", ()))),
        warnings=tuple(map(str, health.get("warnings", ()))),
        broker=place.get("broker"),
        prefix=place.get("prefix"),
        metrics=metrics,
    )


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
