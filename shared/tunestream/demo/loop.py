"""The closed loop: agents play, windows train, promoted versions are served and measured.

Broker, services and policy server run already; starting them is the command's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from pydantic import BaseModel

from tunestream.demo.agents import Arena, Throttle, play_forever
from tunestream.demo.evaluation import Outcomes, evaluate, play_random
from tunestream.demo.observer import ENDED, Observations, Observer
from tunestream.demo.plan import DemoFailed, DemoPlan, DemoSite
from tunestream.demo.policy_client import Policy, PolicyClient
from tunestream.demo.publishing import publishing_of
from tunestream.demo.results import Activity, DemoResults
from tunestream.demo.run_config import BASE_NAME
from tunestream.demo.view import Screen
from tunestream.events.models import ModelStatus, ModelVersion
from tunestream.events.training import TrainingJobStatus, TrainingStatusEnum
from tunestream.sdk import TTCPublisher
from tunestream.serving import served_name

__all__ = ["play"]

AGENTS: Final = 32
MAX_WAITING_WINDOWS: Final = 2
STALL_SECONDS: Final = 300.0


async def play(
    plan: DemoPlan,
    site: DemoSite,
    *,
    on_start: Callable[[Screen], None],
    on_results: Callable[[DemoResults], None],
) -> DemoResults:
    """Run the loop for the plan's rounds and return what it has shown.

    Args:
        plan: how long to play.
        site: where things are.
        on_start: given the screen's content, which changes while the loop runs.
        on_results: given the results; with ``plan.keep`` the loop goes on afterwards until cancelled.

    Raises:
        DemoFailed: a training job failed, or nothing happened for five minutes.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(PolicyClient(site.policy_url))
        publisher = await stack.enter_async_context(TTCPublisher(site.kafka, source="/demo/agents"))
        loop = _Loop(plan, site, client, publisher)
        await stack.enter_async_context(loop.observer)
        on_start(loop.screen)
        return await loop.run(on_results)


@dataclass(slots=True)
class _Changes:
    """Wakes one waiter; complains when it was not woken for too long."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self, waiting_for: str) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self.event.wait()
        except TimeoutError:
            raise DemoFailed(f"nothing happened for {STALL_SECONDS:.0f} s: {waiting_for}") from None
        self.event.clear()


class _Loop:
    def __init__(self, plan: DemoPlan, site: DemoSite, client: PolicyClient, publisher: TTCPublisher) -> None:
        self.observer = Observer(site.kafka, site.run_id, on_event=self._on_event)
        self._plan = plan
        self._site = site
        self._client = client
        recipe = plan.recipe
        enough = None if plan.keep else plan.rounds * recipe.window
        throttle = Throttle(MAX_WAITING_WINDOWS * recipe.window, most_published=enough)
        publishing = publishing_of(recipe)
        self._arena = Arena(site.run_id, client, Policy(BASE_NAME), publisher, publishing, throttle)
        self.screen = Screen(plan.rounds, recipe, self.observer.seen, self._arena)
        self._promoted: asyncio.Queue[ModelVersion] = asyncio.Queue()
        self._wanted: str | None = None
        self._ended: set[str] = set()
        self._changes = _Changes()

    async def run(self, on_results: Callable[[DemoResults], None]) -> DemoResults:
        self.screen.activity = "measuring the base model"
        first = await evaluate(self._client, BASE_NAME, number=0, version=None)
        self.screen.strengths.append(first)
        before = await self._games()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.observer.follow()),
                    group.create_task(self._serve_versions()),
                    group.create_task(play_forever(self._arena, agents=AGENTS, seed=self._plan.seed)),
                ]
                results = await self._play_rounds(before)
                on_results(results)
                if not self._plan.keep:
                    for task in tasks:
                        task.cancel()
        except ExceptionGroup as faults:
            raise _first(faults) from faults
        return results

    async def _play_rounds(self, before: Outcomes) -> DemoResults:
        start = monotonic()
        self.screen.activity = "agents play, windows train, versions are served"
        while not self._is_done():
            await self._changes.next(self._waiting_for())
        seconds = monotonic() - start
        self.screen.activity = "playing against the last version"
        after = await self._games()
        return self._results(before, after, seconds)

    async def _games(self) -> Outcomes:
        return await play_random(self._client, self._arena.policy.model, seed=self._plan.seed)

    def _results(self, before: Outcomes, after: Outcomes, seconds: float) -> DemoResults:
        arena = self._arena
        return DemoResults(
            run_id=self._site.run_id,
            seed=self._plan.seed,
            objective=self._plan.objective,
            quantization=self._plan.quantize,
            unit=self._plan.recipe.unit,
            strengths=tuple(self.screen.strengths),
            before=before,
            after=after,
            activity=Activity(
                games=arena.games,
                turns=arena.turns,
                trajectories=arena.throttle.published,
                held_out_turns=arena.held_out_turns,
                illegal=arena.illegal,
                seconds=seconds,
            ),
        )

    def _on_event(self, body: BaseModel) -> None:
        if isinstance(body, TrainingJobStatus):
            self._on_status(body)
        current = self.observer.seen.current
        version = None if current is None else self.observer.seen.versions.get(current.version)
        if version is not None and version.version != self._wanted:
            self._wanted = version.version
            self._promoted.put_nowait(version)
        self._changes.event.set()

    def _on_status(self, status: TrainingJobStatus) -> None:
        if status.status is TrainingStatusEnum.FAILED:
            raise DemoFailed(f"training job {status.job_id} failed: {status.message}")
        if status.status in ENDED and status.job_id not in self._ended:
            self._ended.add(status.job_id)
            self._arena.throttle.train(self._plan.recipe.window)

    async def _serve_versions(self) -> None:
        while True:
            version = await self._promoted.get()
            name = await self._serve(version)
            if version.version not in self._measured():
                strength = await evaluate(self._client, name, number=version.number, version=version.version)
                self.screen.strengths.append(strength)
            self._changes.event.set()

    async def _serve(self, version: ModelVersion) -> str:
        """Wait until the trainer has had a version loaded, send new turns to it, return its served name."""
        name = served_name(BASE_NAME, version.version)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._client.wait_for(name)
        except TimeoutError:
            raise DemoFailed(
                f"version {version.version} was promoted {STALL_SECONDS:.0f} s ago and is not served; "
                "the trainer's /health/ready shows why"
            ) from None
        self._arena.policy.model, self._arena.policy.version = name, version.version
        return name

    def _measured(self) -> set[str | None]:
        return {strength.version for strength in self.screen.strengths}

    def _is_done(self) -> bool:
        """All rounds have ended, and every version that they promoted is measured."""
        seen = self.observer.seen
        made = {version.job_id for version in seen.versions.values()}
        promoted = {each.version for each in seen.versions.values() if each.status is ModelStatus.PROMOTED}
        measured = promoted <= self._measured()
        return len(self._ended) >= self._plan.rounds and _completed(seen) <= made and measured

    def _waiting_for(self) -> str:
        seen, unit = self.observer.seen, self._plan.recipe.unit
        states = ", ".join(f"{count} {state}" for state, count in sorted(seen.statuses().items())) or "none"
        return (
            f"{len(self._ended)} of {self._plan.rounds} rounds have ended; {self._arena.throttle.published} "
            f"{unit} published, {seen.groups} groups closed, {seen.batches} batches, jobs: {states}"
        )


def _completed(seen: Observations) -> set[str]:
    return {status.job_id for status in seen.jobs.values() if status.status is TrainingStatusEnum.COMPLETED}


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the fault that came first, for people: a group of one adds nothing."""
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
