"""A NeMo platform in one process: entity store, customizer, deployment service and data store.

It speaks the routes that the real clients use, keeps what it is told, "trains" by reading the commit that
a job's dataset names, and fails as it is asked to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from tests.helpers.fake_service import FakeService, ServiceState
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.settings import NeMoSettings

__all__ = ["ENDLESS", "QUICK", "FakeNeMo", "nemo_config", "nemo_settings", "step"]


def step(status: str, percentage: Any = None, **more: Any) -> dict[str, Any]:
    """One answer to a question for a job's status."""
    return {"status": status, "percentage_done": percentage, **more}


QUICK = [
    step("created"),
    step("pending", None),
    step("running", None),
    step("running", 40.0),
    step("completed", 97.5),
]
ENDLESS = [step("running", 5.0)]


@dataclass
class State(ServiceState):
    namespaces: set[str] = field(default_factory=set)
    store_namespaces: set[str] = field(default_factory=set)
    repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    script: list[dict[str, Any]] = field(default_factory=lambda: list(QUICK))
    cancel_script: list[dict[str, Any]] = field(
        default_factory=lambda: [step("cancelling", 5.0), step("cancelled", 5.0)]
    )
    deployment_script: list[str] = field(default_factory=lambda: ["pending", "running", "ready"])
    page_size: int = 2


class FakeNeMo(FakeService):
    """The platform; ``state`` is what it knows and how it behaves, and may be changed at any time."""

    state: State
    state_type = State

    def trained_on(self, job: dict[str, Any], file: str = "training") -> list[dict[str, Any]]:
        """What a job reads: the lines of the commit that its dataset names."""
        dataset = self.state.datasets["{namespace}/{name}".format(**job["dataset"])]
        match = re.fullmatch(r"hf://datasets/([^/]+/[^@]+)(?:@(\w+))?", dataset["files_url"])
        assert match, dataset
        commits = self.state.repositories[match[1]]
        files = dict(commits)[match[2]] if match[2] else commits[-1][1]
        return [
            json.loads(line)
            for name, content in files.items()
            if name.startswith(file)
            for line in content.splitlines()
        ]

    # -- the application

    def _add_routes(self, app: FastAPI) -> None:
        self._entity_routes(app)
        self._job_routes(app)
        self._deployment_routes(app)
        self._hub_routes(app)

    def _entity_routes(self, app: FastAPI) -> None:
        @app.post("/v1/namespaces")
        async def namespace(request: Request) -> Any:
            body = await request.json()
            if body["id"] in self.state.namespaces:
                raise HTTPException(409, "exists")
            self.state.namespaces.add(body["id"])
            return body

        @app.post("/v1/datastore/namespaces")
        async def store_namespace(request: Request) -> Any:
            name = (await request.body()).decode().removeprefix("namespace=")
            if name in self.state.store_namespaces:
                raise HTTPException(409, "exists")
            self.state.store_namespaces.add(name)
            return {"namespace": name}

        @app.post("/v1/datasets")
        async def dataset(request: Request) -> Any:
            body = await request.json()
            return _create(self.state.datasets, f"{body['namespace']}/{body['name']}", body)

        @app.patch("/v1/datasets/{namespace}/{name}")
        async def update(namespace: str, name: str, request: Request) -> Any:
            return _update(self.state.datasets, f"{namespace}/{name}", await request.json())

    def _job_routes(self, app: FastAPI) -> None:
        @app.post("/v1/customization/jobs")
        async def create(request: Request) -> Any:
            body, state = await request.json(), self.state
            if any(job["name"] == body["name"] for job in state.jobs.values()):
                raise HTTPException(409, "the name is taken")
            dataset = "{namespace}/{name}".format(**body["dataset"])
            if body["namespace"] not in state.namespaces or dataset not in state.datasets:
                raise HTTPException(422, f"no dataset {dataset}")
            job = {**body, "id": f"cust-{len(state.jobs)}", "status": "created", "script": list(state.script)}
            state.jobs[job["id"]] = job
            return _shown(job)

        @app.get("/v1/customization/jobs")
        async def jobs(page: int = 1) -> Any:
            size = self.state.page_size
            newest = list(self.state.jobs.values())[::-1]
            data = [_shown(job) for job in newest[(page - 1) * size : page * size]]
            return {"object": "list", "data": data, "pagination": {"page": page, "page_size": size}}

        @app.get("/v1/customization/jobs/{name}/status")
        async def status(name: str) -> Any:
            job = self._job(name)
            answer = job["script"].pop(0) if len(job["script"]) > 1 else job["script"][0]
            job["status"] = answer["status"]
            now = datetime.now(UTC).isoformat()
            return {"created_at": now, "updated_at": now, "elapsed_time": 12.5, "train_loss": 0.25, **answer}

        @app.post("/v1/customization/jobs/{name}/cancel")
        async def cancel(name: str) -> Any:
            job = self._job(name)
            if job["status"] in {"completed", "failed", "cancelled"}:
                raise HTTPException(409, "it has ended")
            job["script"] = list(self.state.cancel_script)
            return _shown(job)

    def _job(self, name: str) -> dict[str, Any]:
        if name not in self.state.jobs:
            raise HTTPException(404, "no such job")
        return self.state.jobs[name]

    def _deployment_routes(self, app: FastAPI) -> None:
        @app.post("/v1/deployment/configs")
        async def config(request: Request) -> Any:
            body = await request.json()
            return _create(self.state.configs, f"{body['namespace']}/{body['name']}", body)

        @app.post("/v1/deployment/model-deployments")
        async def deploy(request: Request) -> Any:
            body = await request.json()
            if body["config"] not in self.state.configs:
                raise HTTPException(422, "no such configuration")
            body["script"] = list(self.state.deployment_script)
            return self._deployment(
                _create(self.state.deployments, f"{body['namespace']}/{body['name']}", body)
            )

        @app.patch("/v1/deployment/model-deployments/{namespace}/{name}")
        async def change(namespace: str, name: str, request: Request) -> Any:
            return self._deployment(
                _update(self.state.deployments, f"{namespace}/{name}", await request.json())
            )

        @app.get("/v1/deployment/model-deployments/{namespace}/{name}")
        async def deployment(namespace: str, name: str) -> Any:
            found = self.state.deployments.get(f"{namespace}/{name}")
            if found is None:
                raise HTTPException(404, "no such deployment")
            if len(found["script"]) > 1:
                found["script"].pop(0)
            return self._deployment(found)

    def _deployment(self, found: dict[str, Any]) -> dict[str, Any]:
        details = {"status": found["script"][0], "description": "as scripted"}
        shown = {key: value for key, value in found.items() if key != "script"}
        return {**shown, "status_details": details, "url": f"http://nim/{found['name']}"}

    def _hub_routes(self, app: FastAPI) -> None:
        @app.post("/v1/hf/api/repos/create")
        async def repository(request: Request) -> Any:
            body = await request.json()
            name = f"{body['organization']}/{body['name']}"
            if body["organization"] not in self.state.store_namespaces:
                raise HTTPException(404, "no such namespace")
            url = f"{self.url}/v1/hf/datasets/{name}"
            if name in self.state.repositories:
                return JSONResponse({"error": "exists", "url": url}, 409)
            self.state.repositories[name] = []
            return {"url": url, "name": name}

        @app.post("/v1/hf/api/datasets/{owner}/{name}/preupload/{revision}")
        async def preupload(owner: str, name: str, revision: str, request: Request) -> Any:
            commits = self._repository(owner, name)
            present = commits[-1][1] if commits else {}
            files = []
            for file in (await request.json())["files"]:
                content = present.get(file["path"])
                oid = None if content is None else _git_oid(content)
                files.append(
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": oid}
                )
            return {"files": files}

        @app.post("/v1/hf/api/datasets/{owner}/{name}/commit/{revision}")
        async def commit(owner: str, name: str, revision: str, request: Request) -> Any:
            commits = self._repository(owner, name)
            files = dict(commits[-1][1]) if commits else {}
            for line in (await request.body()).splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            oid = hashlib.sha1(
                json.dumps([len(commits), owner, name, sorted(map(repr, files.items()))]).encode()
            ).hexdigest()
            commits.append((oid, files))
            return {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"{self.url}/v1/hf/datasets/{owner}/{name}/commit/{oid}",
                "hookOutput": "",
            }

        @app.get("/v1/hf/api/datasets/{owner}/{name}")
        @app.get("/v1/hf/api/datasets/{owner}/{name}/revision/{revision}")
        async def info(owner: str, name: str, revision: str = "main") -> Any:
            commits = self._repository(owner, name)
            return {"id": f"{owner}/{name}", "sha": commits[-1][0] if commits else None}

    def _repository(self, owner: str, name: str) -> list[tuple[str, dict[str, bytes]]]:
        if f"{owner}/{name}" not in self.state.repositories:
            raise HTTPException(404, "no such repository", headers={"X-Error-Code": "RepoNotFound"})
        return self.state.repositories[f"{owner}/{name}"]


def _create(entities: dict[str, dict[str, Any]], name: str, body: dict[str, Any]) -> dict[str, Any]:
    if name in entities:
        raise HTTPException(409, f"{name} exists")
    entities[name] = body
    return body


def _update(entities: dict[str, dict[str, Any]], name: str, body: dict[str, Any]) -> dict[str, Any]:
    if name not in entities:
        raise HTTPException(404, f"no {name}")
    entities[name].update(body)
    return entities[name]


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key != "script"}


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def nemo_config(fake: FakeNeMo, **changes: Any) -> NeMoCustomizerTrainerAdapterConfig:
    """A configuration that looks at the service often."""
    values = {
        "entity_host": f"{fake.url}/",
        "datastore_host": fake.url,
        "namespace": "games",
        "customization_config": "meta/llama-3.2-1b-instruct@v1.0.0+A100",
        "poll_interval_seconds": 0.02,
    }
    return NeMoCustomizerTrainerAdapterConfig.model_validate({**values, **changes})


def nemo_settings(**changes: Any) -> NeMoSettings:
    """Settings that lose patience soon."""
    values = {"retry_delay": 0.01, "retry_max_delay": 0.02, "request_timeout": 5.0, "upload_timeout": 10.0}
    return NeMoSettings(**{**values, **changes})
