"""The smoke test for the real API, here on the emulator: what it reads, reports and rents."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import smoke
from primepods.emulator import Edit, Emulator, Status


@pytest.fixture
def emulator(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An account with pods and a history, and the variables that name it."""
    with Emulator(pods=5, history=5, boot_seconds=0, delete_seconds=0) as emulator:
        monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
        yield emulator


def test_it_reads_only(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Every listing is as documented; only GETs are sent, and the key is not printed."""
    assert smoke.main([]) == 0
    said = capsys.readouterr().out
    assert said.count("as documented") == 12
    assert {entry.method for entry in emulator.requests} == {"GET"}
    assert emulator.api_key not in said


def test_what_differs_is_told_without_values(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown fields and states, other types, missing fields, and an endpoint that fails."""
    changes = {
        "data.0.status": "HIBERNATING",
        "data.1.newField": "s3cret",
        "data.2.gpuCount": "s3cret",
        "data.3.resources.vcpus": True,
        "extra": 1,
    }
    emulator.faults.add(Edit(put=changes, drop="data.4.gpuName"), on="list")
    emulator.faults.add(Status(403), on="disks")
    assert smoke.main([]) == 1
    said = capsys.readouterr().out
    for line in (
        ".data[].status: unknown PodState 'HIBERNATING' (1 times)",
        ".data[].newField: unknown field (1 times)",
        ".data[].gpuCount: expected int, got str (1 times)",
        ".data[].resources.vcpus: expected int, got bool (1 times)",
        ".data[].gpuName: missing (1 times)",
        ".extra: unknown field (1 times)",
    ):
        assert f"    {line}\n" in said
    assert "GET /api/v1/availability/disks: " in said
    assert "403" in said
    assert "s3cret" not in said


@pytest.mark.slow
def test_it_rents_only_when_asked_to(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """One pod, at most for the price, which is gone afterwards; none if none is cheap enough."""
    assert smoke.main(["--rent", "--max-price", "0.0001"]) == 1
    assert not emulator.requests.where(method="POST")
    before = set(emulator.pods)
    assert smoke.main(["--rent", "--max-price", "9"]) == 0
    assert len(emulator.requests.where(method="POST")) == 1
    assert set(emulator.pods) == before
    assert "released: " in capsys.readouterr().out


def test_it_needs_a_key(clean_environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the environment, so that nobody runs it by accident."""
    assert smoke.main([]) == 2
    assert "PRIME_API_KEY" in capsys.readouterr().err
