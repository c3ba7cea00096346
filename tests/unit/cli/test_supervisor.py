"""Processes are restarted, explained, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.services import free_port
from tunestream.cli.child import ProcessSpec
from tunestream.cli.supervisor import KeepsDying, NotReady, Supervisor

SLEEP = "import time; print('working', flush=True); time.sleep(60)"

pytestmark = pytest.mark.timeout(300)


class Said:
    """What a supervisor said, awaitable."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def first(self) -> str:
        async with asyncio.timeout(90):
            await self._more.wait()
        return self.lines[0]


def spec(folder: Path, code: str, name: str = "worker", **fields: object) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-S", "-c", code), folder / f"{name}.log", **fields)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], object], seen: Callable[[], object] = lambda: "") -> None:
    """Wait for what another process changes; `seen` shows in the error what there is instead."""
    try:
        async with asyncio.timeout(90):
            while not condition():  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not so within 90 s; seen: {seen()}") from None


async def test_a_killed_process_is_started_again_and_explained(tmp_path: Path) -> None:
    said = Said()
    child = spec(tmp_path, SLEEP)
    async with Supervisor([child], report=said) as supervisor:
        await until(lambda: child.log.exists() and "working" in child.log.read_text())
        first = supervisor.pid("worker")
        os.kill(first, signal.SIGKILL)
        line = await said.first()
        await until(lambda: supervisor.pid("worker") != first)
        second = supervisor.pid("worker")
        assert is_alive(second)
    assert "worker ended with signal SIGKILL" in line
    assert "working" in line
    assert "at once" in line
    assert not is_alive(second)


async def test_one_that_keeps_dying_ends_the_wait_with_its_last_words(tmp_path: Path) -> None:
    said = Said()
    child = spec(tmp_path, "import sys; sys.exit('no such model: m')")
    async with Supervisor(
        [child, spec(tmp_path, SLEEP, "other")], report=said, restart_waits=(0.0, 0.01)
    ) as running:
        other = running.pid("other")
        with pytest.raises(KeepsDying, match=r"(?s)exit code 1.*no such model: m.*died 3 times"):
            await running.wait()
    assert len(said.lines) == 2
    assert "in 0.01 s" in said.lines[1]
    assert not is_alive(other)


async def test_one_whose_exit_code_is_final_is_not_started_again(tmp_path: Path) -> None:
    child = replace(spec(tmp_path, "print('replica 0 is taken'); raise SystemExit(78)"), final_codes=(78,))
    said = Said()
    async with Supervisor([child], report=said) as running:
        with pytest.raises(KeepsDying, match=r"(?s)exit code 78.*replica 0 is taken.*not started again"):
            await running.wait()
    assert said.lines == []


async def test_one_that_ignores_the_end_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    child = spec(tmp_path, stubborn)
    async with Supervisor([child], report=Said(), stop_timeout=0.2):
        await until(
            lambda: child.log.exists() and len(child.log.read_text().split()) == 2,
            lambda: child.log.read_text() if child.log.exists() else "no log",
        )
    pids = [int(pid) for pid in child.log.read_text().split()]
    # A killed grandchild is there until init has reaped it.
    await until(
        lambda: not any(map(is_alive, pids)),
        lambda: [Path(f"/proc/{pid}/status").read_text() for pid in pids if is_alive(pid)],
    )


async def test_processes_end_by_themselves_when_asked(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye')));"
        "print('up', flush=True); time.sleep(60)"
    )
    child = spec(tmp_path, polite)
    async with Supervisor([child], report=Said()):
        await until(lambda: child.log.exists() and "up" in child.log.read_text())
    assert child.log.read_text().split() == ["up", "bye"]


async def test_environment_and_readiness(tmp_path: Path) -> None:
    serve = (
        "import http.server, os\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    asked = 0\n"
        "    def do_GET(self):\n"
        "        Handler.asked += 1\n"
        "        self.send_response(503 if Handler.asked < 3 else 200); self.end_headers()\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "open(os.environ['PORT_FILE'], 'w').write(str(server.server_port))\n"
        "server.serve_forever()"
    )
    port_file = tmp_path / "port"
    starter = spec(tmp_path, serve, environment={"PORT_FILE": str(port_file)})
    async with Supervisor([starter], report=Said()):
        await until(lambda: port_file.exists() and port_file.read_text())
        url = f"http://127.0.0.1:{port_file.read_text()}/health/ready"
        watched = spec(tmp_path, SLEEP, "watched", ready_url=url)
        async with Supervisor([watched], report=Said()) as supervisor:
            await supervisor.wait_ready(90)


OTHERS = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"ok": True, "reasons": [], "pid": os.getpid()}).encode())
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
open(os.environ["PORT_FILE"], "w").write(str(server.server_port))
server.serve_forever()
"""


async def test_the_readiness_of_another_process_at_its_port_is_not_its_own(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    others = spec(tmp_path, OTHERS, environment={"PORT_FILE": str(port_file)})
    async with Supervisor([others], report=Said()) as elsewhere:
        await until(lambda: port_file.exists() and port_file.read_text())
        url = f"http://127.0.0.1:{port_file.read_text()}/health/ready"
        async with Supervisor([spec(tmp_path, SLEEP, "ours", ready_url=url)], report=Said()) as supervisor:
            with pytest.raises(NotReady, match=f"another process, {elsewhere.pid(others.name)}, answers"):
                await supervisor.wait_ready(3)


NOT_LIVE = """
import http.server, json, os, signal, sys
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"ok": False, "reasons": ["partition 3 of ttc.events stands still"]}}).encode()
        self.send_response({code}); self.end_headers(); self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", {port}), Handler)
print("started", flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize("stubborn", [False, True])
async def test_one_that_is_not_live_is_started_again_with_its_reasons(tmp_path: Path, stubborn: bool) -> None:
    said, port = Said(), free_port()
    child = spec(
        tmp_path,
        NOT_LIVE.format(stubborn=stubborn, code=503, port=port),
        live_url=f"http://127.0.0.1:{port}/health/live",
    )
    async with Supervisor([child], report=said, stop_timeout=0.5, live_interval=0.05) as supervisor:
        first = supervisor.pid("worker")
        await until(lambda: supervisor.pid("worker") != first)
        assert not is_alive(first)
    assert said.lines[0] == "worker is not live and is ended: partition 3 of ttc.events stands still"
    assert f"signal {'SIGKILL' if stubborn else 'SIGTERM'}" in said.lines[1]
    assert "started again" in said.lines[1]


async def test_one_that_never_answered_or_is_live_is_left_alone(tmp_path: Path) -> None:
    said, port = Said(), free_port()
    live = spec(
        tmp_path,
        NOT_LIVE.format(stubborn=False, code=200, port=port),
        "live",
        live_url=f"http://127.0.0.1:{port}/health/live",
    )
    silent = spec(tmp_path, SLEEP, "silent", live_url="http://127.0.0.1:9/health/live")
    async with Supervisor([live, silent], report=said, live_interval=0.01) as supervisor:
        before = [supervisor.pid(name) for name in ("live", "silent")]
        await until(lambda: live.log.exists() and live.log.read_text().count("GET") > 20)
        assert [supervisor.pid(name) for name in ("live", "silent")] == before
    assert said.lines == []


async def test_one_that_stops_answering_is_started_again(tmp_path: Path) -> None:
    said, port = Said(), free_port()
    child = spec(
        tmp_path,
        NOT_LIVE.format(stubborn=False, code=200, port=port).replace(
            "server.serve_forever()",
            "server.handle_request(); server.server_close(); signal.pause()",
        ),
        live_url=f"http://127.0.0.1:{port}/health/live",
    )
    async with Supervisor([child], report=said, live_interval=0.02) as supervisor:
        first = supervisor.pid("worker")
        await until(lambda: supervisor.pid("worker") != first)
    assert "does not answer any more" in said.lines[0]


async def test_what_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    child = spec(tmp_path, SLEEP, ready_url="http://127.0.0.1:9/health/ready")
    async with Supervisor([child], report=Said()) as supervisor:
        with pytest.raises(NotReady, match=r"worker: .*:9/health/ready does not answer"):
            await supervisor.wait_ready(3)


async def test_dying_is_noticed_while_waiting_to_be_ready(tmp_path: Path) -> None:
    child = spec(tmp_path, "raise SystemExit(3)", ready_url="http://127.0.0.1:9/")
    async with Supervisor([child], report=Said(), restart_waits=()) as supervisor:
        with pytest.raises(KeepsDying, match="exit code 3"):
            await supervisor.wait_ready(90)


async def test_a_program_that_does_not_exist_leaves_nothing_behind(tmp_path: Path) -> None:
    missing = ProcessSpec("missing", ("no-such-program",), tmp_path / "missing.log")
    first = spec(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    with pytest.raises(FileNotFoundError):
        async with Supervisor([first, missing], report=Said()):
            pass
    assert not any(is_alive(int(pid)) for pid in first.log.read_text().split())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib, sys
from tunestream.cli.child import ProcessSpec
from tunestream.cli.supervisor import Supervisor
async def main():
    child = ProcessSpec("worker", (sys.executable, "-c", {SLEEP!r}), pathlib.Path({str(tmp_path / "log")!r}))
    async with Supervisor([child], report=print) as supervisor:
        print(supervisor.pid("worker"), flush=True)
        await supervisor.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 90
    while is_alive(child):
        assert time.monotonic() < deadline, "the child outlived its supervisor"
        time.sleep(0.01)


async def test_the_waits_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTREAM_UP_RESTART_WAITS", "[0, 0.01]")
    child = spec(tmp_path, "raise SystemExit(3)")
    async with Supervisor([child], report=Said()) as supervisor:
        with pytest.raises(KeepsDying, match="died 3 times"):
            await supervisor.wait()
