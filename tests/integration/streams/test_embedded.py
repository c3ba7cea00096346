from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tunestream.processes import ProcessRecord
from tunestream.streams.embedded import (
    BrokerDiedError,
    DataFolderInUseError,
    DataFolderVersionError,
    EmbeddedKafka,
    EmbeddedKafkaError,
    JarsUnavailableError,
    PortTakenError,
    StartTimeoutError,
)
from tunestream.streams.embedded.folder import DataFolder
from tunestream.streams.embedded.jars import class_path
from tunestream.streams.embedded.ports import HOST, answers, free_port

# Where the broker is started by a thread, that has ended before the pid is printed.
HOLD_A_BROKER = """
import asyncio, multiprocessing, sys, threading, time
from tunestream.streams.embedded import EmbeddedKafka
broker = EmbeddedKafka(sys.argv[1])
start = sys.argv[2]
if start == "async":
    asyncio.run(broker.__aenter__())
elif start == "thread":
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
else:
    broker.start()
if start == "forking":
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(90,), daemon=True).start()
print(broker.pid, broker.bootstrap_servers, flush=True)
sys.stdin.read()
"""


async def write_committed(servers: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="test")
    await producer.start()
    async with producer.transaction():
        await asyncio.gather(*[await producer.send("kept", value) for value in values])
    await producer.stop()


async def read_committed(servers: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        "kept", bootstrap_servers=servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer, asyncio.timeout(90):
        return [(await consumer.getone()).value for _ in range(count)]


async def create_topic(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()


@dataclass
class Holder:
    """Another process that has its broker on a folder."""

    process: subprocess.Popen[str]
    broker: psutil.Process
    servers: str

    def guard(self) -> psutil.Process:
        """The process that ends the broker when its parent is gone."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if any("guard" in word for word in child.cmdline()))


@contextmanager
def holding(folder: Path, start: str) -> Iterator[Holder]:
    command = [sys.executable, "-c", HOLD_A_BROKER, str(folder), start]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        others = []
        try:
            assert process.stdout is not None
            lines = (line.split() for line in iter(process.stdout.readline, ""))
            pid, servers = next(words for words in lines if words and words[0].isdigit())
            others = psutil.Process(process.pid).children()
            yield Holder(process, psutil.Process(int(pid)), servers)
        finally:
            process.kill()
            for other in others:
                with suppress(psutil.NoSuchProcess):
                    other.kill()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    with holding(tmp_path, "blocking") as held:
        yield held


async def test_records_ports_and_cluster_survive_restart_and_kill(own_kafka: EmbeddedKafka) -> None:
    servers, cluster_id, first_pid = own_kafka.bootstrap_servers, own_kafka.cluster_id, own_kafka.pid
    await create_topic(servers)
    await write_committed(servers, b"1", b"2")

    await asyncio.to_thread(own_kafka.restart)
    assert own_kafka.bootstrap_servers == servers
    await write_committed(servers, b"3")

    await asyncio.to_thread(own_kafka.kill)
    await asyncio.to_thread(own_kafka.start)
    assert "Fencing broker 1 " in own_kafka.log.read_text()
    assert "DUPLICATE_BROKER_REGISTRATION" not in own_kafka.log.read_text(), "the fencing was not written"
    assert await read_committed(servers, 3) == [b"1", b"2", b"3"]
    assert (own_kafka.bootstrap_servers, own_kafka.cluster_id) == (servers, cluster_id)
    assert own_kafka.pid != first_pid

    await asyncio.to_thread(own_kafka.stop)
    async with EmbeddedKafka(own_kafka.data) as later:
        assert (later.bootstrap_servers, later.cluster_id) == (servers, cluster_id)


@pytest.mark.soak
async def test_what_was_committed_as_the_broker_was_killed_is_read(own_kafka: EmbeddedKafka) -> None:
    """Without the fencing, one in five of these partitions is withheld from then on."""
    await create_topic(own_kafka.bootstrap_servers)
    written: list[bytes] = []
    for number in range(30):
        written.append(b"%d" % number)
        await write_committed(own_kafka.bootstrap_servers, written[-1])
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.to_thread(own_kafka.start)
        assert await read_committed(own_kafka.bootstrap_servers, len(written)) == written


def test_stop_leaves_no_process_and_may_be_repeated(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with EmbeddedKafka(tmp_path) as broker:
        process = psutil.Process(broker.pid)
        assert os.getpgid(process.pid) != os.getpgid(0), "Ctrl-C must reach clients before their broker"
        broker.start()
        assert broker.pid == process.pid, "a running broker is left alone"
    assert set(psutil.Process().children()) <= before
    assert broker.pid is None
    assert not answers(int(broker.bootstrap_servers.split(":")[1]))
    broker.stop()


def test_a_folder_has_one_owner(tmp_path: Path, holder: Holder) -> None:
    with pytest.raises(DataFolderInUseError, match=rf"live process {holder.process.pid}\b"):
        EmbeddedKafka(tmp_path).start()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("blocking", signal.SIGHUP),
        ("thread", signal.SIGKILL),
        ("async", signal.SIGKILL),
        ("forking", signal.SIGKILL),
    ],
)
async def test_a_broker_outlives_the_thread_that_started_it_and_not_the_process(
    tmp_path: Path, start: str, end: signal.Signals
) -> None:
    with holding(tmp_path, start) as held:
        await create_topic(held.servers)
        await write_committed(held.servers, b"1")
        assert held.broker.is_running()
        held.process.send_signal(end)
        held.process.wait()
        await asyncio.to_thread(held.broker.wait, 90)


def test_an_orphan_is_ended_by_the_next_start(tmp_path: Path, holder: Holder) -> None:
    holder.guard().kill()
    holder.process.kill()
    holder.process.wait()
    assert holder.broker.is_running()

    with EmbeddedKafka(tmp_path):
        assert not holder.broker.is_running() or holder.broker.status() == psutil.STATUS_ZOMBIE


def test_a_recycled_pid_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    ours = ProcessRecord.of(os.getpid())
    (tmp_path / "broker.pid").write_text(json.dumps({"pid": ours.pid, "started": ours.started - 100}))
    assert folder.find_broker() is None
    folder.write_broker(ours.pid)
    assert folder.find_broker() == psutil.Process()


def test_a_taken_port_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((HOST, free_port()))
        other.listen()
        port = other.getsockname()[1]
        broker = EmbeddedKafka(tmp_path, port=port)
        with pytest.raises(PortTakenError, match=str(port)):
            broker.start()
    broker.start()
    assert broker.bootstrap_servers == f"{HOST}:{port}"
    broker.stop()


def test_a_new_folder_takes_the_first_port_while_it_is_free_and_says_which_it_missed(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((HOST, free_port()))
        other.listen()
        taken = other.getsockname()[1]
        broker = EmbeddedKafka(tmp_path, first_port=taken)
        assert broker._choose_port(None) != taken
        assert broker.missed_port == taken
        remembered = free_port()
        assert EmbeddedKafka(tmp_path, first_port=taken)._choose_port(remembered) == remembered
    broker = EmbeddedKafka(tmp_path, first_port=taken)
    assert (broker._choose_port(None), broker.missed_port) == (taken, None)


@pytest.mark.parametrize(
    ("identity", "problem"),
    [
        ({"cluster_id": "c", "kafka_version": "99.0.0", "port": 1, "controller_port": 2}, r"Kafka 99\.0\.0"),
        ({"layout": 2}, "another version of tunestream"),
        ({"cluster_id": "c", "kafka_version": "new", "port": 1, "controller_port": 2}, "another version"),
        (None, "something else than tunestream"),
    ],
)
def test_a_folder_of_another_version_is_refused(
    tmp_path: Path, identity: dict[str, object] | None, problem: str
) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "meta.properties").touch()
    if identity:
        (tmp_path / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(DataFolderVersionError, match=problem):
        EmbeddedKafka(tmp_path).start()
    DataFolder(tmp_path).acquire()


def test_a_broker_that_dies_shows_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "identity.json").write_text(
        json.dumps({"cluster_id": "c", "kafka_version": "4.3.1", "port": 1, "controller_port": 2})
    )
    (tmp_path / "records" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")
    with pytest.raises(BrokerDiedError, match=r"meta\.properties") as caught:
        EmbeddedKafka(tmp_path).start()
    assert "exit code 1" in str(caught.value)
    assert DataFolder(tmp_path).find_broker() is None


def test_a_start_that_takes_too_long_ends_the_broker(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path)
    with pytest.raises(StartTimeoutError):
        broker.start(timeout=0.001)
    assert not broker.is_running
    assert DataFolder(tmp_path).find_broker() is None


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path)
    entering = asyncio.ensure_future(broker.__aenter__())
    async with asyncio.timeout(90):
        while broker.pid is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    process = psutil.Process(broker.pid)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert not process.is_running()


def test_a_second_start_needs_no_resolver_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{free_port()}")
    with monkeypatch.context() as empty_home:
        empty_home.setenv("HOME", str(tmp_path))
        empty_home.setenv("M2_REPO", str(tmp_path / "m2"))
        with pytest.raises(JarsUnavailableError, match="HTTPS_PROXY"):
            class_path(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "jgo", None)
    assert "kafka" in class_path()


def test_every_error_is_one_kind_with_a_remedy(tmp_path: Path) -> None:
    error = PortTakenError(9092)
    assert isinstance(error, EmbeddedKafkaError)
    assert str(error).endswith(error.remedy)


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    without = "import sys; sys.modules['jgo'] = None; import tunestream.streams.embedded"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'tunestream[embedded]'" in done.stderr
