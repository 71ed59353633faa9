"""Leases write their files into a folder of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.renting.stage import Stage, stage


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the files of leases."""
    folder = tmp_path / "leases"
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(folder))
    return folder


@pytest.fixture
async def it(folder: Path) -> AsyncIterator[Stage]:
    """What a test of leases needs."""
    async with stage(folder) as made:
        yield made
