"""The broker under test: always a real Kafka, never a mock, never a skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tunestream.config.settings import KafkaSettings
from tunestream.streams.embedded import EmbeddedKafka

# The brokers of tests live for minutes: what the JVM's second compiler makes faster costs more than it gains.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# How long an example takes, or is looked for, is the machine's affair; the same ones come at every run.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# What shares the deployment stays on one worker, what loads torch on two others: each is started once there.
# They come first, so that a worker begins with each of them; the other files follow where there is room.
_TOGETHER: Final = {
    "deployment": ("integration/services", "integration/cli/test_control"),
    "training": (
        "integration/trainers",
        "contract/test_art_adapter",
        "contract/test_backend_port",
        "contract/test_trainer_adapter",
    ),
    "models": (
        "integration/experiments",
        "integration/serving",
        "integration/demo/test_agents",
        "integration/examples",
    ),
}
# Files that take longest, first of the others: one of them at the end would have the other workers wait.
_LONG: Final = (
    "integration/demo/test_demo",
    "chaos/test_exactly_once",
    "contract/test_names",
    "integration/streams/test_embedded",
    "integration/cli/test_up",
    "unit/test_imports",
    "unit/cli/test_app",
)


class _ByRoom(LoadScopeScheduling):  # type: ignore[misc]  # no types come with it
    """Gives a worker whole groups of test files."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByRoom:
    """Say which tests share a worker of pytest-xdist; the tests of a file always do."""
    return _ByRoom(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups first, then the long files."""
    order = [*_TOGETHER, *(f"tests/{name}.py" for name in _LONG)]
    groups = {item: _group(item.nodeid) for item in items}
    items.sort(key=lambda item: order.index(groups[item]) if groups[item] in order else len(order))


def _group(nodeid: str) -> str:
    path = nodeid.split("::", 1)[0]
    found = (name for name, folders in _TOGETHER.items() if path.removeprefix("tests/").startswith(folders))
    return next(found, path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        choices=("embedded", "docker"),
        default="embedded",
        help="where Kafka comes from when KAFKA_BOOTSTRAP_SERVERS is not set",
    )


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the broker that the whole session shares."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
    elif request.config.getoption("--broker") == "docker":
        yield from _docker_kafka()
    else:
        with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
            yield broker.bootstrap_servers


def _docker_kafka() -> Iterator[str]:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer("confluentinc/cp-kafka:8.0.0").with_kraft()
    container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    container.with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
    container.with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
    with container:
        yield container.get_bootstrap_server()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix of this test alone, so that tests share one broker and never meet."""
    return f"t{uuid4().hex[:10]}."


@pytest.fixture
def kafka_settings(kafka: str, topic_prefix: str) -> KafkaSettings:
    """The shared broker, with topics of this test alone; create them with ``apply_topics``."""
    return KafkaSettings(bootstrap_servers=kafka, topic_prefix=topic_prefix)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A started broker of this test alone, which it may restart or kill."""
    with EmbeddedKafka(tmp_path / "own-kafka") as broker:
        yield broker
