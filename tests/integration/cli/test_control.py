"""``tunestream jobs`` and ``models`` against a trainer at work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from tests.helpers import tiny_model
from tests.helpers.deployments import CANCEL_GRACE
from tests.helpers.log import read_until
from tests.helpers.runs import apply_run
from tests.helpers.services import Deployment, ServiceProcess
from tunestream.artifacts import rows_to_jsonl
from tunestream.cli import app
from tunestream.config.settings import KafkaSettings
from tunestream.events.cloudevents import Envelope
from tunestream.events.registry import type_of
from tunestream.events.training import TrainingJobStatus
from tunestream.events.ttc import CandidateStep
from tunestream.streams.admin import apply_topics
from tunestream.streams.publish import EventProducer, event_record

pytestmark = pytest.mark.timeout(600)
PATIENCE = 240  # seconds


@dataclass
class Site:
    """A deployment with a trainer, and the command line beside it."""

    settings: KafkaSettings
    folder: Path
    trainer: ServiceProcess

    def run(self, *arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return result

    def data(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def apply(self, run_id: str, model: str = "model", **arguments: object) -> None:
        training = {"learning_rate": 3e-3, "num_train_epochs": 1, "per_device_train_batch_size": 8}
        trainer = {
            "_type": "trl",
            "model": {"hf_model_ckpt": str(self.folder / model)},
            "lora": {"r": 4},
            "training": {"training_args": training | arguments},
        }
        asyncio.run(apply_run(self.settings, run_id, trainer=trainer))

    def dataset(self, seed: int, rows: int = 16) -> Path:
        file = self.folder / f"{seed}.jsonl"
        file.write_bytes(rows_to_jsonl(tiny_model.rows(rows, seed=seed)))
        return file

    def submit(self, run_id: str, seed: int, rows: int = 16) -> str:
        answer = self.data("jobs", "submit", "--run", run_id, "--dataset", self.dataset(seed, rows))
        return str(answer["job_id"])

    def trained(self, run_id: str, seed: int) -> str:
        """Return the version that a dataset made."""
        job = self.submit(run_id, seed)
        self.run("jobs", "wait", job, "--timeout", PATIENCE)
        return str(self.data("jobs", "show", job)["version"])

    def current(self, run_id: str) -> str | None:
        rows = self.data("models", "list", "--run", run_id)
        return next((row["version"] for row in rows if row["current"]), None)

    def worker(self) -> int:
        assert self.trainer.process is not None
        children = psutil.Process(self.trainer.process.pid).children(recursive=True)
        (worker,) = [one for one in children if "trainers.worker.main" in " ".join(one.cmdline())]
        return int(worker.pid)


@pytest.fixture(scope="module")
def site(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings, folder = deployment.kafka, tmp_path_factory.mktemp("site")
    tiny_model.write_tiny_model(folder / "model")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KAFKA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
        environment.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", settings.topic_prefix)
        environment.setenv("TUNESTREAM_ARTIFACTS", str(deployment.folder / "artifacts"))
        yield Site(settings, folder, deployment.services["trainer"])


def _trains(status: TrainingJobStatus, step: int) -> bool:
    told = status.metadata or {}
    return told.get("phase") == "training" and told["step"] >= step


def _reached(site: Site, job: str, step: int) -> TrainingJobStatus:
    """Wait until a job tells that it trains and has finished so many steps; return how it first told."""

    def found(records: list[Any]) -> list[TrainingJobStatus]:
        statuses = [TrainingJobStatus.model_validate_json(record.value) for record in records]
        return [one for one in statuses if one.job_id == job and _trains(one, step)]

    records = asyncio.run(read_until(site.settings, "training.status", lambda records: bool(found(records))))
    return found(records)[0]


def test_a_dataset_becomes_a_version_that_can_be_rolled_back(site: Site) -> None:
    site.apply("a")
    first, second = site.trained("a", 1), site.trained("a", 2)
    assert site.current("a") == second
    before = site.data("models", "rollback", "a", "--dry-run")
    assert (before["accepted"], site.current("a")) == (True, second), "a rehearsal changes nothing"
    site.run("models", "rollback", "a", "--expected-generation", 2)
    assert site.current("a") == first
    statuses = {row["version"]: row["status"] for row in site.data("models", "list", "--run", "a")}
    assert statuses == {first: "promoted", second: "retired"}
    refused = site.run("models", "promote", "a", second, "--expected-generation", 2, code=1)
    assert "the generation is 3" in refused.stderr
    site.run("models", "promote", "a", second[:8])
    assert site.current("a") == second


def _publish_candidate(settings: KafkaSettings, run_id: str, origin: str) -> None:
    """Write a candidate of turn t of example e0, as the collector does."""
    body = CandidateStep(
        run_id=run_id,
        example_id="e0",
        turn_id="t",
        candidate_id="c",
        candidate_index=0,
        prompt="p",
        response="r",
        score=1.0,
    )
    envelope = Envelope(id="c", type=type_of(body), source="/t", time=1, extensions={"tsorigin": origin})

    async def send() -> None:
        async with EventProducer(settings) as producer:
            record = event_record("ttc.candidates", (run_id, "e0"), body.to_json(), envelope)
            await producer.send(record)

    asyncio.run(send())


def test_a_version_is_traced_compared_exported_and_deleted(site: Site) -> None:
    site.apply("m")
    first, second = site.trained("m", 1), site.trained("m", 2)
    _publish_candidate(site.settings, "m", "2/17")
    _publish_candidate(site.settings, "other", "2/18")
    traced = site.data("models", "lineage", second)
    assert traced["ancestors"] == [first]
    assert {turn["example_id"]: turn["events"] for turn in traced["turns"]}["e0"] == ["2/17"]
    fed = site.data("models", "lineage", "--turn", "e0/t", "--run", "m")
    assert (sorted(fed["direct"]), fed["unknown"]) == (sorted([first, second]), [])
    fields = {
        row["field"]: (row["first"], row["second"]) for row in site.data("models", "diff", first, second)
    }
    assert fields["parent"] == (None, first)
    assert "config.run_id" not in fields
    assert fields["rows of its own"][0] > 0

    site.run("models", "export", first, site.folder / "adapter")
    site.run("models", "export", second, site.folder / "whole", "--merged")
    assert (site.folder / "adapter" / "adapter_model.safetensors").is_file()
    assert (site.folder / "whole" / "model.safetensors").is_file()
    assert first in (site.folder / "whole" / "README.md").read_text()
    site.run("models", "export", first, site.folder / "adapter", code=1)

    third = site.trained("m", 5)
    options = ("--keep", 0, "--older-than", "1ms")
    assert first in site.data("models", "gc", "--dry-run", *options)["weights"]
    site.run("models", "export", first, site.folder / "still-there")
    assert first in site.data("models", "gc", *options)["weights"]
    assert first not in site.data("models", "gc", *options)["weights"], "it is gone"
    assert "not in the artifact store" in site.run("models", "promote", "m", first, code=1).stderr
    assert site.data("models", "lineage", first)["turns"] is None
    site.run("models", "rollback", "m")
    assert (site.current("m"), third) == (second, site.data("models", "show", third)["version"])


def test_a_failed_job_is_never_0(site: Site) -> None:
    site.apply("f")
    file = site.folder / "responses.jsonl"
    file.write_text('{"prompt": "a", "response": "red"}\n')
    job = site.data("jobs", "submit", "--run", "f", "--dataset", file)["job_id"]
    assert "wrong_kind" in site.run("jobs", "wait", job, "--timeout", PATIENCE, code=1).stderr
    said = site.data("jobs", "logs", job)
    assert said[-1]["source"] == "status"
    assert said[-1]["text"].startswith("failed: none of the batch's 1 rows")
    assert {(line["attempt"], line["source"]) for line in said} >= {(0, "status"), (1, "report")}
    assert {line["attempt"] for line in site.data("jobs", "logs", job, "--attempt", 1)} == {1}
    assert site.data("jobs", "logs", job, "--attempt", 2) == []
    followed = site.run("jobs", "logs", job, "--follow", "--json").stdout.splitlines()
    assert json.loads(followed[-1]) == said[-1], "it ends with the job"
    assert "failed as empty_dataset" in site.run("jobs", "logs", job).stdout


def test_a_missing_model_fails_with_its_name(site: Site) -> None:
    site.apply("m", model="nowhere")
    job = site.submit("m", 1)
    assert "nowhere" in site.run("jobs", "wait", job, "--timeout", PATIENCE, code=1).stderr


def test_a_canceled_job_stops_leaves_the_worker_and_resumes(site: Site) -> None:
    site.apply("c", num_train_epochs=20_000, save_steps=100_000)
    job = site.submit("c", 3)
    _reached(site, job, 20)
    worker = site.worker()
    waiting = site.submit("c", 4)
    site.run("jobs", "cancel", waiting)
    site.run("jobs", "cancel", job[:10])
    assert site.data("jobs", "wait", job, "--timeout", PATIENCE, code=4)["status"] == "canceled"
    again = site.data("jobs", "submit", "--job", job)["job_id"]
    assert again != job
    resumed = _reached(site, again, 0)
    assert (resumed.metadata or {})["step"] >= 20, "it goes on where the canceled one stopped"
    assert site.worker() == worker, "the warm worker survives"
    site.run("jobs", "cancel", again)
    site.run("jobs", "wait", again, "--timeout", PATIENCE, code=4)
    refused = site.run("jobs", "cancel", again, code=1)
    assert "canceled already" in refused.stderr


def test_a_worker_that_does_not_stop_is_killed(site: Site) -> None:
    site.apply("k", num_train_epochs=20_000, save_steps=100_000)
    job = site.submit("k", 6)
    _reached(site, job, 1)
    worker = psutil.Process(site.worker())
    worker.suspend()
    site.run("jobs", "cancel", job)
    site.run("jobs", "wait", job, "--timeout", PATIENCE, code=4)
    worker.wait(CANCEL_GRACE + PATIENCE)
    site.apply("k")
    assert site.trained("k", 6), "another worker took its place"


def test_nobody_answers_without_a_trainer(
    kafka: str, topic_prefix: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = KafkaSettings(bootstrap_servers=kafka, topic_prefix=topic_prefix)
    monkeypatch.setenv("TUNESTREAM_KAFKA_TOPIC_PREFIX", topic_prefix)
    asyncio.run(apply_topics(elsewhere))
    asyncio.run(apply_run(elsewhere, "a"))
    result = site.run("models", "rollback", "a", "--timeout", 0.5, code=3)
    assert "no trainer is running" in result.stderr
