"""The pytest fixtures, in sessions of their own, as their users have them."""

import http.client
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

import pytest

from primepods.emulator import Emulator, Host

PLUGIN = "primepods.pytest_plugin"
ROOT = Path(__file__).parents[2]

# Loaded by hand where the package is not installed; an installed one is found by its entry point.
INSTALLED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))


def run(folder: Path, tests: str, *arguments: str, passes: bool = True) -> str:
    """Run these tests in a session of their own; returns what it printed. Fails if they do not end so."""
    (folder / "test_it.py").write_text(dedent(tests), encoding="utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\nfilterwarnings = error\naddopts = --strict-markers\npythonpath = {ROOT}\n",
        encoding="utf-8",
    )
    loaded = [] if INSTALLED else ["-p", PLUGIN]
    command = [sys.executable, "-m", "pytest", "-v", *loaded, "-p", "no:asyncio", *arguments, "test_it.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment(), timeout=50
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """This process's, and the way to the package."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_blocking_client_has_an_emulator(tmp_path: Path) -> None:
    """At a hundred times the speed of real time."""
    run(
        tmp_path,
        """
        def test_ready(primepods_emulator, primepods_client):
            pod_id = primepods_emulator.add_pod(boot_seconds=10)
            status = primepods_client.pods.wait_ready(pod_id, interval=0.05)
            assert status.is_ready
        """,
    )


ASYNCHRONOUS = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{mark}
@pytest.mark.primepods(pods=250, boot_seconds=0)
async def test_list(primepods_emulator, primepods_async_client):
    pods = [pod async for pod in primepods_async_client.pods.list()]
    assert [pod.id for pod in pods] == list(primepods_emulator.pods)
"""


def test_the_asynchronous_client_runs_under_anyio(tmp_path: Path) -> None:
    """By its plugin, which is always there."""
    assert "1 passed" in run(tmp_path, ASYNCHRONOUS.format(mark="anyio"))


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_asynchronous_client_runs_under_pytest_asyncio(tmp_path: Path, mode: str) -> None:
    """In whichever loop runs the test, in either mode of the plugin, and with anyio's beside it."""
    pytest.importorskip("pytest_asyncio")
    marks = ["asyncio", "asyncio(loop_scope='module')", "anyio"]
    for number, mark in enumerate(marks):
        test = ASYNCHRONOUS.format(mark=mark)
        (tmp_path / f"test_{number}.py").write_text(test, encoding="utf-8")
    options = [f"asyncio_mode={mode}", "asyncio_default_fixture_loop_scope=function"]
    arguments = [argument for option in options for argument in ("-o", option)]
    files = [f"test_{number}.py" for number in range(len(marks))]
    assert "3 passed" in run(tmp_path, "", "-p", "asyncio", *arguments, *files)


def test_the_asynchronous_client_needs_a_loop(tmp_path: Path) -> None:
    """A test that is not run in one is told how it could be."""
    printed = run(tmp_path, "def test_it(primepods_async_client): pass", passes=False)
    assert "mark it with @pytest.mark.anyio" in printed


def test_markers_say_what_the_emulator_is_like(tmp_path: Path) -> None:
    """The nearest one has the last word; a clock of one's own has no speed."""
    run(
        tmp_path,
        """
        import pytest
        from datetime import UTC, datetime
        from primepods.emulator import ManualClock

        pytestmark = pytest.mark.primepods(pods=3, seed=5)

        @pytest.mark.primepods(pods=4)
        def test_nearest(primepods_emulator):
            assert len(primepods_emulator.pods) == 4

        @pytest.mark.primepods(clock=ManualClock(epoch=datetime(2030, 1, 1, tzinfo=UTC)))
        @pytest.mark.parametrize("number", [1, 2])
        def test_each_has_its_clock(primepods_emulator, number):
            assert primepods_emulator.clock.now() == 0
            assert primepods_emulator.clock.epoch.year == 2030
            primepods_emulator.advance(1000)
            assert {pod.status for pod in primepods_emulator.pods.values()} == {"ACTIVE"}
        """,
    )


def test_markers_take_keyword_arguments_only(tmp_path: Path) -> None:
    """Others are an error that says so, and not ignored."""
    test = """
        import pytest

        @pytest.mark.primepods(5)
        def test_it(primepods_emulator): pass
    """
    assert "takes keyword arguments, as in primepods(pods=5), not 5" in run(tmp_path, test, passes=False)


def test_nothing_leaks_from_test_to_test(tmp_path: Path) -> None:
    """One socket, but neither state nor key nor connection; a request in flight is abandoned."""
    run(
        tmp_path,
        """
        import http.client
        import json
        import threading
        import time
        import pytest
        from primepods.emulator import Delay

        seen = []

        def ask(port, key):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/api/v1/pods/", headers={"Authorization": f"Bearer {key}"})
            return connection

        @pytest.mark.parametrize("number", range(5))
        def test_alone(primepods_emulator, number):
            port = int(primepods_emulator.url.rpartition(":")[2])
            assert len(primepods_emulator.pods) == len(primepods_emulator.requests) == 0
            for old_port, old_key, old in seen:
                assert old_port == port
                with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
                    old.getresponse()
                old.close()
                refused = ask(port, old_key)
                assert refused.getresponse().status == 401
                refused.close()
            seen.clear()
            primepods_emulator.add_pod()
            primepods_emulator.faults.add(Delay(1e9))
            seen.append((port, primepods_emulator.api_key, ask(port, primepods_emulator.api_key)))
            while not any(request.faults for request in primepods_emulator.requests):
                time.sleep(0.001)

        def test_control(primepods_emulator):
            for _, _, old in seen:
                old.close()
            port = int(primepods_emulator.url.rpartition(":")[2])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            key = primepods_emulator.api_key
            connection.request("GET", "/_emulator/state", headers={"Authorization": f"Bearer {key}"})
            assert json.load(connection.getresponse())["pods"] == []
            connection.close()
        """,
        "-p",
        "no:randomly",
    )


def test_it_works_in_many_processes(tmp_path: Path) -> None:
    """Each worker of pytest-xdist has a socket of its own."""
    pytest.importorskip("xdist")
    printed = run(
        tmp_path,
        """
        import pytest

        @pytest.mark.parametrize("number", range(20))
        @pytest.mark.primepods(boot_seconds=0)
        def test_many(primepods_emulator, primepods_client, number):
            for _ in range(number):
                primepods_emulator.add_pod()
            assert primepods_client.pods.page().total_count == number
        """,
        "-n",
        "2",
    )
    assert "20 passed" in printed


def test_the_marker_is_documented(tmp_path: Path) -> None:
    """And the fixtures, with their docstrings."""
    run(tmp_path, "def test_nothing(): pass")
    assert "primepods(**options)" in run(tmp_path, "def test_nothing(): pass", "--markers")
    printed = run(tmp_path, "def test_nothing(): pass", "--fixtures")
    for fixture in ("primepods_emulator", "primepods_client", "primepods_async_client"):
        assert fixture in printed


def test_between_tests_nobody_is_served() -> None:
    """The socket answers, and says so."""
    host = Host()
    host.mount(None)
    host.start()
    try:
        with Emulator().on(host) as emu, pytest.raises(RuntimeError, match="already"):
            emu.start()
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
        connection.request("GET", "/api/v1/pods/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (
            503,
            b'{"detail": "No emulator is served here at the moment"}',
        )
        connection.close()
    finally:
        host.stop()
        host.stop()
