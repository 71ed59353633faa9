"""A Prefect server for all tests, and what runs on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from primepods.emulator import Emulator

if TYPE_CHECKING:
    # Each module of tests is skipped where Prefect is not installed.
    from .server import PrefectServer, Setting


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A real server on a free port, with a database of its own."""
    from .server import PrefectServer

    with PrefectServer(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture
def boot_seconds() -> float:
    """How long pods boot; a parameter of the tests that want them slow."""
    return 1.0


@pytest.fixture
def emulator(boot_seconds: float) -> Iterator[Emulator]:
    """An account whose pods take half a second to go."""
    with Emulator(
        boot_seconds=boot_seconds, delete_seconds=0.5, api_key="pk-secret-of-the-account-1"
    ) as emulator:
        yield emulator


@pytest.fixture
async def setting(
    prefect_server: PrefectServer, emulator: Emulator, tmp_path: Path
) -> AsyncIterator[Setting]:
    """A work pool of this test's own, with flows and workers."""
    from .server import Setting

    async with Setting(prefect_server, emulator, tmp_path) as setting:
        yield setting


@pytest.fixture(autouse=True)
def prefect_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Prefect writes, and where its pods live, is this test's own."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect-home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
