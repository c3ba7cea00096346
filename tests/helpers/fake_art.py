"""ART's training service in one process: the routes that ``art.ServerlessBackend`` uses.

It keeps the jobs that it is sent, tells the events of its script, one more at each look, and makes a
checkpoint when a job has ended. It does not train.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from tests.helpers.fake_service import FakeService, ServiceState

__all__ = ["ENDLESS", "QUICK", "FakeART", "event"]


def event(kind: str, **data: Any) -> dict[str, Any]:
    """One event of a job."""
    return {"type": kind, "data": data}


QUICK = [
    event("training_started", num_sequences=2),
    event("gradient_step", loss=0.5, grad_norm=1.0, learning_rate=1e-5),
    event("gradient_step", loss=0.25, grad_norm=0.5, note="words"),
    event("training_ended"),
]
ENDLESS = [QUICK[0], event("and so on")]
"""Each look tells of one more gradient step."""


@dataclass
class State(ServiceState):
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, list[int]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    script: list[dict[str, Any]] = field(default_factory=lambda: list(QUICK))
    advances: bool = True
    hasty: bool = False
    """Jobs end when they are created."""


class FakeART(FakeService):
    """The service; ``state`` is what it knows and how it behaves, and may be changed at any time."""

    state: State
    state_type = State

    def finish(self, job: dict[str, Any]) -> None:
        """Let a job end whose script has no end."""
        job["script"][-1] = event("training_ended")

    def _add_routes(self, app: FastAPI) -> None:
        self._model_routes(app)
        self._job_routes(app)

    def _model_routes(self, app: FastAPI) -> None:
        @app.post("/v1/preview/models")
        async def create(request: Request) -> Any:
            body, models = await request.json(), self.state.models
            entity = body["entity"] or "games"
            name = f"{entity}/{body['project']}/{body['name']}"
            if name in models and not body["return_existing"]:
                raise HTTPException(409, "it exists")
            known = {key: body[key] for key in ("project", "name", "base_model")}
            made = {"id": f"model-{len(models)}", "entity": entity, "run_id": "r", **known}
            model = models.setdefault(name, made)
            self.state.steps.setdefault(model["id"], [])
            return model

        @app.get("/v1/preview/models/{model}/checkpoints")
        async def checkpoints(model: str, limit: int = 20, order: str = "asc", after: str = "") -> Any:
            steps = sorted(self._steps(model), reverse=order == "desc")
            data = [{"id": f"{model}-{step}", "step": step, "metrics": {}} for step in steps]
            names = [one["id"] for one in data]
            rest = data[names.index(after) + 1 :] if after else data
            return {"object": "list", "data": rest[:limit], "has_more": len(rest) > limit}

        @app.delete("/v1/preview/models/{model}/checkpoints")
        async def delete(model: str, request: Request) -> Any:
            unwanted = (await request.json())["steps"]
            steps = self._steps(model)
            missing = [step for step in unwanted if step not in steps]
            self.state.steps[model] = [step for step in steps if step not in unwanted]
            return {"deleted_count": len(unwanted) - len(missing), "not_found_steps": missing}

    def _job_routes(self, app: FastAPI) -> None:
        @app.post("/v1/preview/training-jobs")
        async def create(request: Request) -> Any:
            body, jobs = await request.json(), self.state.jobs
            self._steps(body["model_id"])
            job = {**body, "id": f"job-{len(jobs)}", "script": list(self.state.script), "told": 0}
            jobs[job["id"]] = {**job, "ended": False}
            if self.state.hasty:
                self._end(jobs[job["id"]])
            return {"id": job["id"]}

        @app.get("/v1/preview/training-jobs/{name}/events")
        async def events(name: str, after: str = "") -> Any:
            if name not in self.state.jobs:
                raise HTTPException(404, "no such job")
            job = self.state.jobs[name]
            script = job["script"]
            if script[-1]["type"] == "and so on" and job["told"] == len(script) - 1:
                script.insert(-1, event("gradient_step", loss=0.5))
            job["told"] = min(job["told"] + 1, sum(one["type"] != "and so on" for one in script))
            told = [{"id": f"{name}-{n}", **one} for n, one in enumerate(script[: job["told"]])]
            if told and told[-1]["type"] == "training_ended":
                self._end(job)
            names = [one["id"] for one in told]
            rest = told[names.index(after) + 1 :] if after else told
            return {"object": "list", "data": rest, "has_more": False}

    def _steps(self, model: str) -> list[int]:
        if model not in self.state.steps:
            raise HTTPException(404, "no such model")
        return self.state.steps[model]

    def _end(self, job: dict[str, Any]) -> None:
        if not job["ended"] and self.state.advances:
            self.advance(job["model_id"])
        job["ended"] = True

    def advance(self, model: str) -> None:
        """Make a checkpoint."""
        steps = self.state.steps[model]
        steps.append(max(steps, default=0) + 1)
