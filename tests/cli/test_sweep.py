"""`primepods sweep`: shows, asks, deletes, and says what it could not delete."""

import errno
import io
import itertools
import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import primepods
from primepods._utils.unique_names import unique_name
from primepods.emulator import Edit, Emulator, Status
from primepods.leasing._lease_record import new_record
from primepods.leasing.ledger import LeaseFile
from tests.cli.conftest import Run, in_terminal, run_on
from tests.renting.stage import name_of
from tests.support.eventually import wait_for
from tests.support.processes import start_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files of leases are."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    return tmp_path


_numbers = itertools.count()


def leave(emulator: Emulator, folder: Path) -> str:
    """Leave a pod behind, as a process that has given up does; returns its id."""
    with primepods.Client() as client:
        settings = client._async._executor.settings
    name = name_of(next(_numbers), "left")
    pod_id = emulator.add_pod(name, boot_seconds=0)
    file = LeaseFile.new(folder, new_record(name, settings)).write()
    file.update(pod_id=pod_id, price_hr=1.5, given_up=True)
    file.close()
    return pod_id


def test_nothing_left(emulator: Emulator, run: Run, folder: Path) -> None:
    """Pods of other origin are not its business."""
    result = run("sweep", "--yes")
    assert (result.exit_code, result.output) == (0, "Nothing to delete.\n")
    assert len(emulator.pods) == 3


def test_what_is_left_alone_is_not_nothing(emulator: Emulator, run: Run, folder: Path) -> None:
    """A file that cannot be read may be that of a pod."""
    (folder / "odd.json").write_text("{", encoding="utf-8")
    result = run("sweep", "--yes")
    assert result.exit_code == 0
    assert "Left alone: odd.json" in result.output
    assert "by a sweep of expired pods (`--expired`, or expired=True)\n" in result.output
    assert result.output.endswith("\nNothing to delete.\n")


def test_a_pod_with_a_later_expiry_is_named_with_what_deletes_it(
    emulator: Emulator, run: Run, folder: Path
) -> None:
    """Its name says that a process elsewhere may still use it."""
    pod_id = run("create", "--gpu", "H100", "--name", "ci", "--max-hours", "3", "--yes").stdout.strip()
    says = f"delete it with `primepods delete {pod_id}`"
    # The server tells its time in whole seconds, so that a new pod may look younger than it is.
    wait_for(lambda: says in run("sweep", "--prefix", "ci-", "--older-than", "0s", "--yes").stderr)
    assert pod_id in emulator.pods


def test_a_dry_run_shows_and_deletes_nothing(emulator: Emulator, run: Run, folder: Path) -> None:
    """With what it costs."""
    pod_id = leave(emulator, folder)
    result = run("sweep", "--dry-run")
    assert result.exit_code == 0
    assert pod_id in result.output
    assert pod_id in emulator.pods


def test_a_dry_run_tells_that_the_list_is_incomplete(emulator: Emulator, run: Run, folder: Path) -> None:
    """After the pods that it found."""
    pod_id = leave(emulator, folder)
    emulator.faults.add(Edit(put={"data.0": 7}), on="list")
    result = run("sweep", "--dry-run")
    assert result.exit_code == 1
    assert pod_id in result.stdout
    assert "pods.list: " in result.stderr


def test_without_a_terminal_it_wants_yes(emulator: Emulator, run: Run, folder: Path) -> None:
    """And deletes nothing before."""
    pod_id = leave(emulator, folder)
    result = run("sweep")
    assert result.exit_code == 2
    assert pod_id in emulator.pods
    result = run("sweep", "--yes")
    assert result.exit_code == 0
    assert "1 deleted, 0 failed" in result.output
    assert pod_id not in emulator.pods
    assert list(folder.iterdir()) == []


def test_what_cannot_be_deleted_is_named(emulator: Emulator, run: Run, folder: Path) -> None:
    """And the exit says so."""
    pod_id = leave(emulator, folder)
    emulator.faults.add(Status(403), on="delete")
    result = run("sweep", "--yes")
    assert result.exit_code == 1
    assert "0 deleted, 1 failed" in result.output
    assert pod_id in emulator.pods


def test_a_prefix_needs_an_age(emulator: Emulator, run: Run, folder: Path) -> None:
    """A pod without a file may belong to a process elsewhere."""
    assert run("sweep", "--prefix", "ci-").exit_code == 2
    assert run("sweep", "--prefix", "ci-", "--older-than", "2h").exit_code == 0


def test_expired_pods_are_deleted_without_a_file(emulator: Emulator, run: Run, folder: Path) -> None:
    """From any machine, by their names alone."""
    expired = emulator.add_pod(unique_name("train", expires_at=1_760_000_000), boot_seconds=0)
    emulator.add_pod(unique_name("train", expires_at=3_000_000_000), boot_seconds=0)
    result = run("sweep", "--expired", "--yes")
    assert (result.exit_code, len(emulator.pods)) == (0, 4)
    assert expired in result.output


def test_no_key_is_a_usage_error(run: Run, folder: Path) -> None:
    """One line, no traceback."""
    result = run("sweep")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


class Watched(io.StringIO):
    """A stdout whose reader does something when it sees the first line."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action: Callable[[], object] | None = action

    def write(self, text: str) -> int:
        """Take a piece of text."""
        action, self._action = self._action, None
        if action is not None:
            action()
        return super().write(text)


def test_what_was_not_shown_is_not_deleted(
    emulator: Emulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process leaves a pod after the list was printed: with and without a question it stays."""
    first = leave(emulator, folder)
    out = Watched(lambda: leave(emulator, folder))
    assert run_on(monkeypatch, ["sweep", "--yes"], io.StringIO(), out, io.StringIO()) == 0
    assert first not in emulator.pods
    answered: list[str] = []

    def answer(shown: str) -> str:
        if answered or "Delete 1 pod?" not in shown:
            return ""
        answered.append(leave(emulator, folder))
        return "y\n"

    code, shown = in_terminal(monkeypatch, "sweep", answer=answer)
    assert code == 0
    assert "1 deleted, 0 failed" in shown
    assert list(emulator.pods)[3:] == answered


def test_what_is_not_found_again_is_told(
    emulator: Emulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sweep has taken it: nobody here has seen it gone."""
    leave(emulator, folder)
    out, err = Watched(lambda: next(folder.iterdir()).unlink()), io.StringIO()
    assert run_on(monkeypatch, ["sweep", "--yes"], io.StringIO(), out, err) == 1
    assert err.getvalue().startswith("0 deleted, 0 failed\n")
    assert "some pods were not found again" in err.getvalue()
    assert len(emulator.pods) == 4


@pytest.mark.slow
def test_a_sweep_as_a_service(emulator: Emulator, folder: Path) -> None:
    """It sweeps again and again, without questions, also after an error, until a signal."""
    emulator.faults.add(Status(403), on="delete", times=1)
    with start_command("sweep", "--every", "1s") as process:
        try:
            for _ in range(2):
                pod_id = leave(emulator, folder)
                wait_for(partial(is_gone, emulator, pod_id))
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "1 deleted" in err
    assert "403" in err


class Full(Watched):
    """A stdout that has no space for the first table, and at whose second one the user presses Ctrl-C."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__(action)
        self._errors: Iterator[BaseException] = iter([OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])

    def write(self, text: str) -> int:
        """Fail."""
        super().write(text)
        raise next(self._errors)


def test_a_service_survives_its_machine(
    emulator: Emulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the folder of leases cannot be read, it says so; a stdout that is full stops no deletion."""
    left = leave(emulator, folder)
    shown = run_on(monkeypatch, ["sweep", "--dry-run", "--yes"], io.StringIO(), Full(print), io.StringIO())
    assert (shown, left in emulator.pods) == (1, True)
    hidden = folder.rename(folder.with_suffix(".hidden"))
    folder.touch()

    def bring_back() -> None:
        folder.unlink()
        hidden.rename(folder)

    out, err = Full(lambda: leave(emulator, folder)), Watched(bring_back)
    assert run_on(monkeypatch, ["sweep", "--every", "0.1s"], io.StringIO(), out, err) == 130
    assert re.search("cannot be read.*1 deleted.* full", err.getvalue(), re.DOTALL)
    assert left not in emulator.pods
    assert len(emulator.pods) == 4


def is_gone(emulator: Emulator, pod_id: str) -> bool:
    """Whether the API has no such pod."""
    return pod_id not in emulator.pods
