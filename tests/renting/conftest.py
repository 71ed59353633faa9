"""Leases write their files into a folder of the test's own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the files of leases."""
    folder = tmp_path / "leases"
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(folder))
    return folder
