"""Asks model servers which versions they answer with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from tunestream.config.run.run import RunConfig
from tunestream.config.run.serving import ServingConfig
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.overview.facts import ServerFacts
from tunestream.serving import Loaded, ModelServer, ServerFault, Target, targets

__all__ = ["read_servers"]

_ANSWER_SECONDS: Final = 10.0


async def read_servers(configs: Iterable[RunConfig], ledger: JobLedger) -> list[ServerFacts]:
    """Return what each server of the runs answers with, against what is promoted."""
    asked = [_ask(config, server, ledger) for config in configs for server in config.serving]
    return await asyncio.gather(*asked)


async def _ask(config: RunConfig, server: ServingConfig, ledger: JobLedger) -> ServerFacts:
    target = next(_targets(config, server, ledger), None)
    listed: tuple[str, ...] = ()
    problem: str | None = "no version is promoted yet"
    try:
        async with ModelServer(server, timeout=_ANSWER_SECONDS) as asked:
            loaded = await asked.loaded()
    except ServerFault as fault:
        problem = str(fault)
    else:
        if target is not None:
            listed = tuple(sorted(name for name in loaded if name in {*target.owned, target.model}))
            problem = _problem(target, loaded)
    return ServerFacts(
        run_id=config.run_id,
        server=server.url,
        kind=server.kind,
        number=None if target is None else target.current.number,
        desired=None if target is None else target.name,
        listed=listed,
        in_sync=None if target is None else problem is None,
        problem=problem,
    )


def _targets(config: RunConfig, server: ServingConfig, ledger: JobLedger) -> Iterator[Target]:
    pointer = ledger.pointer(config.run_id)
    if pointer is not None:
        only = config.model_copy(update={"serving": [server]})
        yield from targets(only, pointer, ledger.versions(config.run_id))


def _problem(target: Target, loaded: Loaded) -> str | None:
    if target.name not in loaded:
        return f"does not list {target.name}"
    if target.server.stable_name and loaded.get(target.model, "") != loaded[target.name]:
        return f"{target.model} is not {target.name}"
    return None
