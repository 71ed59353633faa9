"""What the tests of the blocking client start from, and what none of them leaves behind."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from primepods import Client
from primepods.emulator import Emulator
from tests.sync.harness import Api, Ended, Script, client_of, eventually, loop_threads, no_poller_is_left

Start = Callable[[str], Script]
Run = Callable[[str], Ended]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No test finds or leaves a thread or a poller of another."""
    wait_for_the_end_of_loops()
    yield
    wait_for_the_end_of_loops()


def wait_for_the_end_of_loops() -> None:
    """Return when no thread of a client, and no poller, is left."""
    if loop_threads():
        # Perhaps only until a forgotten client is collected.
        gc.collect()
    eventually(lambda: not loop_threads(), "all loops end")
    eventually(no_poller_is_left, "nothing polls")


@pytest.fixture(autouse=True)
def _no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the process may have imported a notebook's kernel, in which a blocked loop is normal."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)


@pytest.fixture
def api() -> Iterator[Api]:
    """Three pods, all ready."""
    with Api().in_thread() as made:
        yield made


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    """A blocking client of the three pods."""
    with client_of(api) as made:
        yield made


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """An emulator in which all pods are ready."""
    with Emulator(pods=250, seed=5, boot_seconds=0) as emulator:
        yield emulator


@pytest.fixture
def emulated(emu: Emulator) -> Iterator[Client]:
    """A blocking client of the emulator."""
    with Client(emu.api_key, base_url=emu.url) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path, api: Api) -> Iterator[Start]:
    """Starts scripts that use `api`; none outlives its test."""
    started: list[Script] = []

    def make(source: str) -> Script:
        started.append(Script(tmp_path / f"script{len(started)}.py", source, api.url))
        return started[-1]

    yield make
    for made in started:
        made.kill()


@pytest.fixture
def run(start: Start) -> Run:
    """Runs a script to its end."""
    return lambda source: start(source).end()
