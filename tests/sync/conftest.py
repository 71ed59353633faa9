"""What the tests of the blocking client start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.sync.harness import Api, Script, serving


@pytest.fixture
def api() -> Iterator[Api]:
    """An API with three pods, all ready."""
    with serving(Api()) as made:
        yield made


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """An emulator in which all pods are ready."""
    with Emulator(pods=250, seed=5, boot_seconds=0) as emulator:
        yield emulator


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """Starts scripts: `script(source, url)`; none outlives its test."""
    started: list[Script] = []

    def start(source: str, url: str) -> Script:
        made = Script(tmp_path / f"script{len(started)}.py", source, url)
        started.append(made)
        return made

    yield start
    for made in started:
        made.kill()
