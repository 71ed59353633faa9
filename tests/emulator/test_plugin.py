"""The pytest fixtures, in sessions of their own, as their users have them."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
# Loaded by name, because all that is installed takes three times as long.
PLUGINS = ("primepods.pytest_plugin", "anyio.pytest_plugin")


def run(folder: Path, tests: str, *arguments: str, plugins: tuple[str, ...] = (), passes: bool = True) -> str:
    """Run these tests in a session of their own; returns what it printed. Fails if they do not end so."""
    (folder / "test_it.py").write_text(dedent(tests), encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n", encoding="utf-8"
    )
    loaded = [f"-p{plugin}" for plugin in PLUGINS + plugins]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *loaded, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=100,
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    return done.stdout


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


@pytest.mark.slow
def test_both_clients_have_an_emulator(tmp_path: Path) -> None:
    """The asynchronous one in anyio's loop, both at a hundred times the speed of real time."""
    blocking = """
def test_ready(primepods_emulator, primepods_client):
    pod_id = primepods_emulator.add_pod(boot_seconds=10)
    assert primepods_client.pods.wait_ready(pod_id, interval=0.05).is_ready
"""
    assert "2 passed" in run(tmp_path, ASYNCHRONOUS.format(mark="anyio") + blocking)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_asynchronous_client_runs_under_pytest_asyncio(tmp_path: Path, mode: str) -> None:
    """In whichever loop runs the test, in either mode of the plugin, and with anyio's beside it."""
    pytest.importorskip("pytest_asyncio", reason="one of two plugins that run async tests")
    for mark in ("asyncio", "asyncio(loop_scope='module')"):
        (tmp_path / f"test_{len(mark)}.py").write_text(ASYNCHRONOUS.format(mark=mark), encoding="utf-8")
    options = [f"-oasyncio_mode={mode}", "-oasyncio_default_fixture_loop_scope=function"]
    plugins = ("pytest_asyncio.plugin",)
    assert "3 passed" in run(tmp_path, ASYNCHRONOUS.format(mark="anyio"), *options, plugins=plugins)


@pytest.mark.slow
def test_any_pytest_asyncio_leaves_other_tests_alone(tmp_path: Path) -> None:
    """With a version that cannot make our fixtures, such as 0.23, only the test that asks for one fails."""
    package = tmp_path / "pytest_asyncio"
    package.mkdir()
    (package / "__init__.py").write_text("from .plugin import fixture", encoding="utf-8")
    (package / "plugin.py").write_text(
        dedent(
            """
            import pytest

            def pytest_configure(config):
                config.addinivalue_line("markers", "asyncio: as pytest-asyncio has it")

            def fixture(function, **kwargs):
                return pytest.fixture(function, **kwargs)
            """
        ),
        encoding="utf-8",
    )
    tests = ASYNCHRONOUS.format(mark="asyncio") + "def test_other(): pass\n"
    printed = run(tmp_path, tests, plugins=("pytest_asyncio.plugin",), passes=False)
    assert "1 passed, 1 error" in printed
    assert "Install 0.24 or newer" in printed


LOST_ORDERS = """
import os
import primepods, pytest
from primepods.emulator import ManualClock, Reset

def order(client):
    return primepods.PodSpec.from_offer(client.availability.cheapest(), name="train")

def lose_an_order(emulator, client):
    emulator.faults.add(Reset(acted=True), on="create", times=1)
    assert [client.pods.create(order(client)).id] == list(emulator.pods)

@pytest.mark.parametrize("number", [1, 2])
def test_fast(primepods_emulator, primepods_client, number):
    lose_an_order(primepods_emulator, primepods_client)

@pytest.mark.primepods(clock=ManualClock())
@pytest.mark.parametrize("number", [1, 2])
def test_by_hand(primepods_emulator, primepods_client, number):
    lose_an_order(primepods_emulator, primepods_client)

def test_lease_that_is_kept(primepods_emulator, primepods_client):
    with primepods_client.pods.lease(order(primepods_client), interval=0.05) as pod:
        pod.keep()
    assert len(primepods_emulator.pods) == 1
    assert not os.path.exists(os.path.expanduser("~/.primepods"))

def test_next(primepods_emulator, primepods_client):
    sweep = primepods_client.pods.sweep(dry_run=True)
    assert not sweep.found and not sweep.skipped
"""


@pytest.mark.slow
def test_lost_orders_can_be_rehearsed(tmp_path: Path) -> None:
    """At any speed, one test after another, and with an account, and leases' files, of each test's own."""
    assert "6 passed" in run(tmp_path, LOST_ORDERS, "-p", "no:randomly")


@pytest.mark.slow
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


@pytest.mark.slow
def test_wrong_uses_are_errors_that_say_so(tmp_path: Path) -> None:
    """Positional arguments of the mark, and the asynchronous client in a test without a loop."""
    printed = run(
        tmp_path,
        """
        import pytest

        @pytest.mark.primepods(5)
        def test_mark(primepods_emulator): pass

        def test_loop(primepods_async_client): pass
        """,
        passes=False,
    )
    assert "2 errors" in printed
    assert "takes keyword arguments, as in primepods(pods=5), not 5" in printed
    assert "mark the test with @pytest.mark.anyio" in printed


@pytest.mark.slow
def test_nothing_leaks_from_test_to_test(tmp_path: Path) -> None:
    """Neither state nor key nor connection; a request in flight is abandoned."""
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
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
            connection.request("GET", "/api/v1/pods/", headers={"Authorization": f"Bearer {key}"})
            return connection

        @pytest.mark.parametrize("number", range(5))
        def test_alone(primepods_emulator, number):
            port = int(primepods_emulator.url.rpartition(":")[2])
            assert len(primepods_emulator.pods) == len(primepods_emulator.requests) == 0
            for old_key, old in seen:
                with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
                    old.getresponse()
                old.close()
                refused = ask(port, old_key)
                assert refused.getresponse().status == 401
                refused.close()
            seen.clear()
            primepods_emulator.add_pod()
            primepods_emulator.faults.add(Delay(1e9))
            seen.append((primepods_emulator.api_key, ask(port, primepods_emulator.api_key)))
            while not any(request.faults for request in primepods_emulator.requests):
                time.sleep(0.001)

        def test_control(primepods_emulator):
            for _, old in seen:
                old.close()
            port = int(primepods_emulator.url.rpartition(":")[2])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
            key = primepods_emulator.api_key
            connection.request("GET", "/_emulator/state", headers={"Authorization": f"Bearer {key}"})
            assert json.load(connection.getresponse())["pods"] == []
            connection.close()
        """,
    )
