"""The names that users rely on, as the code has them now; ``names.yaml`` holds those that must stay.

``python -m tests.contract.names`` prints them, ``--write`` adds what is new to the record. What is to go,
with a new major version, is taken out of the record by hand.

Held elsewhere: the fields of records (docs/wire/baseline), the keys of a run's file (docs/configuration.md),
the values of ``tunestream_domain_events_total{name}`` (the domain's own tests).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiokafka
import yaml
from prometheus_client import REGISTRY
from pydantic_settings import BaseSettings

from tests.contract.command_line import commands
from tests.contract.json_keys import json_keys
from tools.wire import examples
from tunestream.config.run.run import RunConfig
from tunestream.config.settings import KafkaSettings
from tunestream.events.registry import event_types
from tunestream.streams.runs import apply_run
from tunestream.streams.tasks.plan import Plan
from tunestream.streams.tasks.task import Task
from tunestream.topics import CATALOGUE

RECORD: Final = Path(__file__).with_name("names.yaml")
_APPS: Final = (
    "tunestream_services.ttc_collector.app",
    "tunestream_services.pair_builder.app",
    "tunestream_services.curriculum_gate.app",
    "tunestream_services.trainer.app",
)
_PACKAGES: Final = sorted({name.partition(".")[0] for name in ("tunestream.cli", *_APPS)})
# What stands in the record for the deployment's own part of a name.
ENVIRONMENT: Final = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "TUNESTREAM_KAFKA_TOPIC_PREFIX": "PREFIX.",
    "TUNESTREAM_REPLICA": "REPLICA",
}
_PARTITION: Final = 3

Names = dict[str, Any]


def missing(recorded: object, found: object, path: str = "") -> list[str]:
    """Return what is recorded and not found, a line each; what is found beside it does not count."""
    if isinstance(recorded, Mapping):
        there: Mapping[str, object] = found if isinstance(found, Mapping) else {}
        return [
            line
            for name, inner in recorded.items()
            for line in (
                missing(inner, there[name], f"{path}/{name}") if name in there else [f"{path}/{name}"]
            )
        ]
    if isinstance(recorded, list):
        kept = found if isinstance(found, list) else []
        return [f"{path}: {item}" for item in recorded if item not in kept]
    return [] if recorded == found else [f"{path}: {recorded} (now {found})"]


def names_of_code() -> Names:
    """Return all names but the keys of ``--json``; needs a process whose environment is ENVIRONMENT."""
    return {
        "command line": commands(),
        "entry point groups": entry_point_groups(),
        "environment variables": environment_variables(),
        "services": at_the_broker(),
        "metrics": metrics(),
        "topics": topics(),
        "wire": {"headers": headers(), "types": sorted(event_types()), "enumerations": enumerations()},
    }


def entry_point_groups() -> list[str]:
    """Return the groups that the sources name."""
    pattern = re.compile(r'"(tunestream\.(?:trainer_backends|evaluators|qa_\w+|\w+_backends))"')
    return sorted({group for _, text in _sources() for group in pattern.findall(text)})


def environment_variables() -> list[str]:
    """Return the variables of every settings class, and those that are read beside them."""
    for module, text in _sources():
        if "variables(" in text:
            importlib.import_module(module)
    classes = [cls for cls in _subclasses(BaseSettings) if cls.__module__.partition(".")[0] in _PACKAGES]
    found = {str(field.validation_alias) for cls in classes for field in cls.model_fields.values()}
    read = re.compile(r'(?:environ(?:\.get\(|\[)|envvar=)"((?:TUNESTREAM|KAFKA)_\w+)"')
    return sorted(found | {name for _, text in _sources() for name in read.findall(text)})


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for inner in cls.__subclasses__():
        yield inner
        yield from _subclasses(inner)


def _sources() -> Iterator[tuple[str, str]]:
    """Yield each module's name and text; nothing is imported that may need torch."""
    for package in _PACKAGES:
        for folder in importlib.import_module(package).__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                parts = file.relative_to(folder).with_suffix("").parts
                name = ".".join((package, *parts)).removesuffix(".__init__")
                yield name, file.read_text("utf-8")


def at_the_broker() -> dict[str, Names]:
    """Return what each service calls itself at the broker, and where it answers."""
    apps = [importlib.import_module(name).app for name in _APPS]
    plans = {plan.group: plan for plan in gc.get_objects() if isinstance(plan, Plan)}
    found: dict[str, Names] = {}
    for app in apps:
        (subscriber,) = app.broker.subscribers
        plan = plans[subscriber.group_id]
        found[plan.service] = {
            "changelog": plan.changelog,
            "consumer group": subscriber.group_id,
            "gauges": sorted(plan.new_handler(0).gauges()),
            "group.instance.id": subscriber._connection_args["group_instance_id"],
            "http": sorted(route[0] for route in app.routes),
            "inputs": sorted(one.name for one in subscriber.topics),
            f"transactional.id of partition {_PARTITION}": _transactional_id(
                Task(plan, _PARTITION, lambda _task, _error: None).open(None)
            ),
        }
    return {**found, "run apply": {"transactional.id of RUN": _of_an_applied_run()}}


def _of_an_applied_run() -> str:
    trainer = {"_type": "trl", "model": {"hf_model_ckpt": "m"}}
    run = RunConfig.model_validate({"run_id": "RUN", "trainer": trainer})
    return _transactional_id(apply_run(KafkaSettings(), run, source="/names"))


def _transactional_id(work: Any) -> str:
    """Return under which id the work would write, without a broker."""
    started: list[str] = []

    async def start(producer: Any) -> None:
        started.append(producer._txn_manager.transactional_id)
        producer._closed = True
        raise InterruptedError

    async def run() -> None:
        with suppress(InterruptedError):
            await work

    original = aiokafka.AIOKafkaProducer.start
    aiokafka.AIOKafkaProducer.start = start
    try:
        asyncio.run(run())
    finally:
        aiokafka.AIOKafkaProducer.start = original
    (found,) = started
    return found


def metrics() -> dict[str, Names]:
    """Return our metrics of all services, once these are imported."""
    found: dict[str, Names] = {}
    for collector in REGISTRY._collector_to_names:
        name, kind = getattr(collector, "_name", ""), getattr(collector, "_type", "")
        if name.startswith("tunestream_"):
            shown = f"{name}_total" if kind == "counter" else name
            found[shown] = {"type": kind, "labels": sorted(collector._labelnames)}  # type: ignore[attr-defined]
    return dict(sorted(found.items()))


def topics() -> dict[str, Names]:
    """Return how each topic is keyed, kept and partitioned, and what it carries."""
    return {
        entry.name: {
            "cleanup": entry.cleanup.value,
            # A changelog's keys are its service's own, a dead letter's those of its record.
            **({"key": entry.key.value, "by run": entry.by_run} if entry.types else {}),
            "types": sorted(entry.types),
        }
        for entry in sorted(CATALOGUE, key=lambda entry: entry.name)
    }


def headers() -> list[str]:
    """Return the headers of records, from the examples of docs/wire."""
    return sorted({name for example in examples() for name, _ in example.headers})


def enumerations() -> dict[str, list[str]]:
    """Return the values of the closed enumerations of records, by ``ce_type`` and field."""
    found: Names = {}
    for name, model in sorted(event_types().items()):
        schema = model.model_json_schema(mode="serialization")
        found |= {f"{name} {path}": values for path, values in _closed(schema, schema.get("$defs", {}))}
    return found


def _closed(schema: Any, definitions: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the path and the values of each enumeration below a JSON Schema."""
    if "$ref" in schema:
        yield from _closed(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
    if "enum" in schema:
        yield path, sorted(map(str, schema["enum"]))
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _closed(inner, definitions, path)
    for name, inner in schema.get("properties", {}).items():
        yield from _closed(inner, definitions, f"{path}.{name}".removeprefix("."))


def main() -> int:
    """Print the names of the code as YAML, or add them and the keys to the record; nothing leaves it."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.names", description=__doc__)
    parser.add_argument("--write", action="store_true", help="add what is new to names.yaml")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    found = names_of_code()
    if not options.write:
        yaml.safe_dump(found, sys.stdout)
        return 0
    found["--json"] = json_keys()
    recorded = yaml.safe_load(RECORD.read_text("utf-8"))
    if gone := missing(recorded, found):
        sys.stderr.writelines(f"{line} is recorded and gone\n" for line in gone)
        return 1
    RECORD.write_text(yaml.safe_dump(found, width=100), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
