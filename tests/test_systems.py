"""What differs on other systems: each function that decides, with the answers of Windows or macOS."""

import os
import signal
import sys
import time
from pathlib import Path

import attrs
import pytest
from typer.testing import CliRunner

from primepods import ConfigError
from primepods._utils.clock import Clock
from primepods._utils.files import lock_file, locked_file, replace_file, try_lock
from primepods._utils.secret import Secret
from primepods.cli.app import app
from primepods.config import Settings
from primepods.leasing._lease_record import new_record
from primepods.leasing.ledger import LeaseFile
from primepods.runs import AgentBudget, Run, RunRecord
from primepods.signals import _termination_signals
from tests.renting.stage import lease_files, name_of


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says that it is Windows."""
    monkeypatch.setattr(sys, "platform", "win32")


def test_files_are_used_without_locks(windows: None, tmp_path: Path) -> None:
    """Windows has no ``flock``: nobody waits for a lock there, and a file is written in place."""
    descriptors = [lock_file(tmp_path / "lock") for _ in range(2)]
    assert [try_lock(descriptor) for descriptor in descriptors] == [None, None]
    with locked_file(tmp_path / "lock"), locked_file(tmp_path / "lock"):
        replace_file(tmp_path / "file", b"new")
    assert [file.name for file in tmp_path.iterdir() if file.name != "lock"] == ["file"]
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_lease_whose_process_cannot_be_seen_is_not_claimed(windows: None, tmp_path: Path) -> None:
    """Without ``/proc`` and locks, a process counts as running, unless it has given its lease up."""
    settings = Settings(api_key=Secret("pit_0123456789"), base_url="https://api.example.com", team_id=None)
    record = attrs.evolve(new_record(name_of(), settings), process_start=None)
    file = LeaseFile.new(tmp_path, record).write()
    file.close()
    assert not record.is_dead
    assert LeaseFile.claim(file.path) is None
    file.update(given_up=True)
    [(path, _)] = lease_files(tmp_path)
    claimed = LeaseFile.claim(path)
    assert claimed is not None
    claimed.close()


def test_a_run_is_not_stopped_by_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On Windows, SIGTERM would end it at once, and leave its pod: an error says what to do."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    run = Run.create(
        RunRecord(client={}, find={}, changes={}, lease={}, command="", is_detached=False, began_at=0.0)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="press Ctrl-C where it runs"):
        run.stop()


def test_what_needs_locks_or_signals_is_refused(windows: None, tmp_path: Path) -> None:
    """A budget of agents and a detached run are an error on Windows, before anything is rented."""
    with pytest.raises(ConfigError, match="file locks"):
        AgentBudget(1.0)
    words = ["run", "--gpu-type", "H100", "--detach", "--max-hours", "1", "--", "true"]
    result = CliRunner().invoke(app, words, env={"PRIME_API_KEY": "k1", "PRIMEPODS_STATE_DIR": str(tmp_path)})
    assert (result.exit_code, "--detach needs Linux or macOS" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_time_goes_on_while_nothing_tells_of_sleep(windows: None) -> None:
    """Windows has no clock that includes the machine's sleep: budgets count by the monotonic one."""
    before = time.monotonic()
    assert before <= Clock().boottime() <= time.monotonic()


def test_signals_that_are_not_there_are_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """``exit_on_sigterm`` handles SIGHUP only on systems that have it."""
    monkeypatch.delattr(signal, "SIGHUP")
    assert _termination_signals() == [signal.SIGTERM]
