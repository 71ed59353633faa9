"""The files of leases: locked while their process lives, whatever becomes of it, and never with the key."""

import errno
import os
import shutil
import signal
import stat
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

import primepods
from primepods._utils.files import lock_file
from primepods._utils.secret import Secret
from primepods.config import Settings
from primepods.leasing._lease_record import LeaseRecord, fingerprint, new_record
from primepods.leasing.ledger import LeaseFile
from primepods.runs import take_over_lease
from tests.renting.stage import lease_files, name_of
from tests.support.processes import Process, start_python

SETTINGS = Settings(api_key=Secret("pit_ledger_0123456789"), base_url="https://api.example.com", team_id="t")
MINE = name_of(0, "mine")


def record(name: str = MINE) -> LeaseRecord:
    """What is written before a pod is ordered."""
    return new_record(name, SETTINGS)


def claimable(folder: Path) -> list[LeaseRecord]:
    """Those whose process has ended; they stay as they are."""
    found: list[LeaseRecord] = []
    for path, _ in lease_files(folder):
        file = LeaseFile.claim(path)
        if file is not None:
            found.append(file.record)
            file.close()
    return found


def test_a_file_says_all_but_the_key(tmp_path: Path) -> None:
    """It is the owner's alone, and can be read by others of his processes while it is locked."""
    file = LeaseFile.new(tmp_path / "a" / "b", record()).write()
    file.update(pod_id="p1", price_hr=2.5)
    ((path, read),) = lease_files(tmp_path / "a" / "b")
    assert read == file.record
    assert (read.name, read.pod_id, read.price_hr, read.pid) == (MINE, "p1", 2.5, os.getpid())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SETTINGS.api_key not in path.read_text()
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    file.remove()
    assert list(path.parent.iterdir()) == []


async def test_a_take_over_that_fails_unlocks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are refused: another process can still take the lease over."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    LeaseFile.new(tmp_path, attrs.evolve(record(), given_up=True)).write().close()
    [(path, _)] = lease_files(tmp_path)
    async with primepods.AsyncClient("key") as client:
        with pytest.raises(ValueError, match="max_hours"):
            take_over_lease(client, path.name, was_shown=True, max_hours=-1)
    assert [found.name for found in claimable(tmp_path)] == [MINE]


def test_a_process_whose_state_cannot_be_read_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor: only a file that is not there shows that a process has ended."""
    mine = record()

    def read_bytes(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert not mine.is_dead
    assert record().process_start is None


def test_two_cannot_claim_the_same(tmp_path: Path) -> None:
    """Two sweeps share the work."""
    LeaseFile.new(tmp_path, record()).write().close()
    ((path, _),) = lease_files(tmp_path)
    first = LeaseFile.claim(path)
    assert first is not None
    assert LeaseFile.claim(path) is None
    first.remove()
    assert LeaseFile.claim(path) is None


def test_a_file_that_has_no_room_is_refused(tmp_path: Path) -> None:
    """Before anything is rented: a part of it would say nothing."""
    resource = pytest.importorskip("resource", reason="there are no such limits on Windows")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        with pytest.raises(primepods.ConfigError, match="PRIMEPODS_STATE_DIR"):
            LeaseFile.new(tmp_path, record()).write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder_cannot_be_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk errors for folders only: they appear after the rename."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.usefixtures("folder_cannot_be_synced")
def test_a_refused_file_does_not_stay(tmp_path: Path) -> None:
    """Nothing is rented: a sweep would look for a pod that was never ordered."""
    with pytest.raises(primepods.ConfigError, match="nothing was rented"):
        LeaseFile.new(tmp_path, record()).write()
    assert list(tmp_path.iterdir()) == []


def test_an_updated_file_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Though it cannot be synced: a sweep would delete the pod of a living process."""
    file = LeaseFile.new(tmp_path, record()).write()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    file.update(pod_id="p1")
    assert "Input/output error" in caplog.text
    assert [found.pod_id for _, found in lease_files(tmp_path)] == ["p1"]
    assert claimable(tmp_path) == []
    file.close()
    assert [found.pod_id for found in claimable(tmp_path)] == ["p1"]


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_file_that_was_removed_is_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_moved: bool
) -> None:
    """A cleaner removes, or moves, the folder of an open lease: the next change writes it, and warns."""
    folder = tmp_path / "leases"
    file = LeaseFile.new(folder, record()).write()
    if is_moved:
        folder.rename(tmp_path / "old")
    else:
        shutil.rmtree(folder)
    file.update(pod_id="p1")
    file.update(price_hr=2.5)
    assert caplog.text.count("written again") == 1
    assert [(found.pod_id, found.price_hr) for _, found in lease_files(folder)] == [("p1", 2.5)]
    assert claimable(folder) == []
    file.close()
    assert [found.pod_id for found in claimable(folder)] == ["p1"]


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_cut_line_is_passed_over(tmp_path: Path, cut: int) -> None:
    """A full disk, or the power, has cut the last line: the one before counts, and so does a later one."""
    file = LeaseFile.new(tmp_path, record()).write()
    file.update(pod_id="p1")
    whole = len(file.path.read_bytes())
    file.update(pod_id="p2", price_hr=2.5)
    os.truncate(file.path, whole + cut)
    assert [found.pod_id for _, found in lease_files(tmp_path)] == ["p1"]
    file.update(price_hr=3.5)
    assert [(found.pod_id, found.price_hr) for _, found in lease_files(tmp_path)] == [("p2", 3.5)]
    file.close()
    assert [found.price_hr for found in claimable(tmp_path)] == [3.5]


def test_a_removed_file_is_not_written(tmp_path: Path) -> None:
    """The release of an interrupted lease removes it while a thread is about to write it: nothing is left."""
    file = LeaseFile.new(tmp_path, record())
    file.remove()
    file.write()
    file.update(pod_id="p1")
    assert list(tmp_path.iterdir()) == []


def test_keys_are_told_apart_by_their_fingerprints() -> None:
    """Equal for equal keys, and short."""
    other = Settings(api_key=Secret("pit_other"))
    assert fingerprint(SETTINGS) == fingerprint(Settings(api_key=SETTINGS.api_key)) != fingerprint(other)


@contextmanager
def process(folder: Path, then: str) -> Iterator[Process]:
    """A process that holds a lease, says so, and does something."""
    source = f"""
        import os, sys, time
        from pathlib import Path
        from primepods.leasing.ledger import LeaseFile
        from primepods.leasing._lease_record import new_record
        from tests.renting.stage import name_of
        from tests.renting.test_ledger import SETTINGS
        file = LeaseFile.new(Path({str(folder)!r}), new_record(name_of(), SETTINGS)).write()
        {then}
    """
    environment = {"PYTHONPATH": str(Path(primepods.__file__).parent.parent)}
    with start_python("-c", textwrap.dedent(source), environment=environment) as running:
        assert running.line() == "ready"
        yield running


def test_a_dead_process_leaves_its_file_to_be_claimed(tmp_path: Path) -> None:
    """However it dies, and not before."""
    with process(tmp_path, 'print("ready", flush=True); time.sleep(60)') as running:
        assert claimable(tmp_path) == []
        running.kill()
        running.wait()
        (found,) = claimable(tmp_path)
    assert (found.pid, found.may_be_orphaned(has_min_age=False)) == (running.pid, True)


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it told when a process was started")
@pytest.mark.slow
def test_a_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    """In a container without an init it stays in the list of processes."""
    with process(tmp_path, 'print("ready", flush=True); time.sleep(60)') as running:
        running.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert [found.may_be_orphaned(has_min_age=False) for found in claimable(tmp_path)] == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it told when a process was started")
@pytest.mark.slow
def test_a_process_may_be_named_anything(tmp_path: Path) -> None:
    """Fifteen bytes of a name are kept, which may end within a character."""
    rename = 'Path("/proc/self/comm").write_bytes(b"train-" + "\u043c".encode()[:1])'
    with process(tmp_path, f'{rename}; print("ready", flush=True); time.sleep(60)'):
        assert [found.may_be_orphaned(has_min_age=False) for _, found in lease_files(tmp_path)] == [False]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """It outlives its parent, whose lease can be swept all the same, and drops no lock of a living one."""
    then = """
        child = os.fork()
        if child == 0:
            print("ready", flush=True)
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
    """
    with process(tmp_path, textwrap.dedent(then).strip().replace("\n", "\n        ")) as running:
        assert claimable(tmp_path) == []
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.kill()
        running.wait()
        assert [found.name for found in claimable(tmp_path)] == [name_of()]
        os.kill(int(children[0]), signal.SIGKILL)


def test_a_forked_child_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    """A thread that writes during the fork is not there to release the child's copy of its lock."""
    file = LeaseFile.new(tmp_path, record())
    with file._writing:
        file.leave_to_parent()
        assert not file._writing.locked()


def test_a_file_that_cannot_be_locked_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget, or a run, on a file system without locks is an error, and leaves no descriptor open."""
    fcntl = pytest.importorskip("fcntl", reason="there are no such locks on Windows")
    opened: list[int] = []

    def flock(descriptor: int, _: int) -> None:
        opened.append(descriptor)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks"):
        lock_file(tmp_path / "lock")
    (descriptor,) = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_without_locks_only_what_provably_ended_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have none: a lease can be had there, and a living process keeps it."""
    fcntl = pytest.importorskip("fcntl", reason="there are no such locks on Windows")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    file = LeaseFile.new(tmp_path, record()).write()
    file.close()
    assert claimable(tmp_path) == []
    file.update(given_up=True)
    file.close()
    assert [found.name for found in claimable(tmp_path)] == [MINE]
    file.update(given_up=False, process_start=1)
    file.close()
    assert [found.name for found in claimable(tmp_path)] == [MINE]
