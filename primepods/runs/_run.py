"""Folders of runs, in the folder of leases: record, lock, output and messages."""

from __future__ import annotations

import difflib
import errno
import json
import os
import posixpath
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import attrs

from .._utils.files import lock_file, read_path, sync_folder
from .._utils.strict_json import is_list, is_object
from .._utils.text import quote
from .._utils.unique_names import unique_name
from ..config import lease_folder, this_host
from ..errors import ConfigError
from ..remote import Stream, Watchdog, check_job_name
from ._host import FAILED

_VERSION: Final = 1
_MAX_NUMBER: Final = 250_000_000_000
"""Max number of a record: a time in the year 9892, or a size of 250 GB."""
_MAX_NODES: Final = 1_000
_MAX_PID: Final = 2**31 - 1
_CLAIM_ATTEMPTS: Final = 100
"""Max attempts of 80 ms each: on a busy machine, readers of the state may hold a shared lock for seconds."""
STOP_SIGNALS: Final = tuple(signal.Signals[name] for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals of `primepods stop`, and of its option ``--now``."""
_ABANDONED: Final = 130
"""Exit code of an abandoned run, the same as after Ctrl-C."""


@attrs.frozen(kw_only=True)
class RunRecord:
    """Task and progress of a run, without the values of environment variables and without the API key.

    Times are in seconds since the epoch.

    Attributes:
        client: The arguments of the client: base URL, context, team.
        find: The arguments of ``availability.find``.
        changes: Fields of the order that differ from the offer's.
        lease: The arguments of ``pods.lease``.
        ssh_key: Id or name of the SSH key that may log in.
        command: The command, as for ``pod.start``.
        variables: Names of the command's environment variables.
        uploads: Local paths, each with its target on the pod.
        exclude: Patterns of files not to upload.
        exclude_from: Files with patterns of files not to upload, in git's syntax.
        workdir: Folder on the pod in which the command runs; ``None`` for the home folder.
        downloads: Paths on the pod, each with its local target.
        watchdog: The options of the pods' watchdog, without a key; ``None`` for no watchdog.
        keep: Whether to leave the pod running.
        wind_down: Seconds before a limit at which the command is asked to end; 0 for none.
        hold: Max seconds to hold the pod while a result is missing; ``None`` until the limit, or an hour.
        download_every: Seconds between downloads while the command runs; ``None`` for none.
        typed: The limits as typed, for messages.
        reconnect: Seconds to try to connect again after a loss.
        restarts: Max number of restarts on another pod, if a pod is lost; with ``pods``, of each item.
        pods: Max number of pods at a time for a run of many items; 0 for a run of one command.
        is_detached: Whether the output goes to files.
        began_at: When the run began.
        pid: Pid of the process that holds the run's lock, or held it last.
        host: Host of that process; see ``this_host``.
        restart: The number of the current restart.
        lease_file: Name of the lease's file, which is written before the order.
        lease_files: The same of all leases, for a run of many items.
        pod_id: Id of its current or last pod.
        leased_at: When the order of the current pod began; ``None`` while the run has no pod and no order.
        price_hr: The pod's price per hour.
        was_ready: Whether the pod has accepted a login, so that the command may have begun.
        job: Name of its job on the pod, once the start of the job is confirmed.
        nodes: Highest number of nodes of its pods.
        offsets: Sizes of the output files when the job began; see :meth:`Run.sizes`.
        spent: Cost of its earlier pods.
        result: The exit code, saved before the pod is deleted.
        ending: Name of the reason for which the command is asked to end; see :class:`Reason`.
        are_fetched: Whether nothing was missing when its results were fetched after the command's end.
        held_until: Until when the pod is held for a missing result; ``None`` while it is not.
        verdict: How the run has ended, as text; saved with ``exit_code``.
        is_stopping: Whether the run must stop, or has no reservation yet.
        exit_code: The exit code, once the run has ended.
        ended_at: When the run ended.
        is_released: Whether the run is known to have left no pod.
        swept_at: When something else, such as a sweep, had deleted its pod at the latest.
    """

    client: dict[str, str | None]
    find: dict[str, Any]
    changes: dict[str, Any]
    lease: dict[str, Any]
    command: str | list[str]
    is_detached: bool
    began_at: float
    ssh_key: str | None = None
    variables: list[str] = attrs.field(factory=list[str])
    uploads: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    exclude: list[str] = attrs.field(factory=list[str])
    exclude_from: list[str] = attrs.field(factory=list[str])
    workdir: str | None = None
    downloads: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    watchdog: dict[str, Any] | None = None
    keep: bool = False
    wind_down: float = 0.0
    hold: float | None = None
    download_every: float | None = None
    typed: dict[str, str] = attrs.field(factory=dict[str, str])
    reconnect: float = 900.0
    restarts: int = 0
    pods: int = 0
    pid: int = 0
    host: tuple[str | None, ...] = attrs.field(default=(), converter=tuple)
    restart: int = 0
    lease_file: str | None = None
    lease_files: list[str] = attrs.field(factory=list[str])
    pod_id: str | None = None
    leased_at: float | None = None
    price_hr: float = 0.0
    was_ready: bool = False
    job: str | None = None
    nodes: int = 1
    offsets: tuple[int, ...] = ()
    spent: float = 0.0
    result: int | None = None
    ending: str | None = None
    are_fetched: bool = False
    held_until: float | None = None
    verdict: str = ""
    is_stopping: bool = False
    exit_code: int | None = None
    ended_at: float | None = None
    is_released: bool = False
    swept_at: float | None = None

    def sources(self, path: str) -> list[str]:
        """Return where a path on the pod is looked for: where the command runs, then in the home folder."""
        first = [posixpath.join(self.workdir, path)] if self.workdir and path[:1] != "~" else []
        return [*first, path]

    @property
    def pod_watchdog(self) -> Watchdog | None:
        """The watchdog of its pods, without its key."""
        return None if self.watchdog is None else Watchdog(**self.watchdog)

    @property
    def has_idle_watchdog(self) -> bool:
        """Whether the watchdog of a lost pod may have deleted it: the API does not say that."""
        return "idle" in (self.watchdog or {})

    @property
    def result_without_pod(self) -> int | None:
        """The exit code if the pod is gone: a success whose results were not fetched is none."""
        return FAILED if self.result == 0 and self.downloads and not self.are_fetched else self.result


class Run:
    """Folder of a run: its record, the lock that its process holds, its output and its messages."""

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record: RunRecord = record
        self._lock = -1

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def job_name(self) -> str:
        """Name of the job of the present attempt."""
        return f"{self.name}-{self.record.restart}"

    @classmethod
    def create(cls, record: RunRecord) -> Run:
        """Create a run, and lock it for this process.

        Raises:
            ConfigError: The folder cannot be written, or another process has locked the run.
            ValueError: The name is not that of a job.
        """
        name = unique_name(str(record.changes.get("name") or "run")[:34])
        path = run_folder() / check_job_name(name)
        run = cls(path, record)
        try:
            path.mkdir(mode=0o700, parents=True)
            try:
                sync_folder(path.parent)
                run.save(pid=os.getpid(), host=this_host())
                is_claimed = run.claim()
            except BaseException:  # without a record, it would be listed as unreadable
                run.remove()
                raise
            if not is_claimed:
                raise ConfigError(
                    f"Another process has locked the new run {path.name}: nothing was rented. Run it again."
                )
        except OSError as exc:
            raise ConfigError(
                f"The folder {path.parent} cannot be written ({exc.strerror}): nothing was rented, because "
                "nothing would record the pod. Make it writable, or set PRIMEPODS_STATE_DIR."
            ) from None
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Return the run of a folder.

        Raises:
            OSError: The record cannot be read.
            ValueError: The record is invalid.
        """
        file = path / "run.json"
        try:
            check_job_name(path.name)
            return cls(path, _parse_record(_read(file)))
        except (AttributeError, RecursionError, TypeError, ValueError) as exc:
            raise ValueError(
                f"{file} cannot be read as the record of a run ({exc}). Repair it, use the version of "
                "primepods that wrote it, or delete its folder after `primepods sweep` has deleted its pod"
            ) from None

    def save_or_tell(self, tell: Callable[[str], object], **changes: Any) -> None:
        """Write the record; if that fails, for example because the disk is full, tell it and go on."""
        try:
            self.save(**changes)
        except OSError as exc:
            tell(self.describe_problem(exc))

    def describe_problem(self, error: OSError) -> str:
        """Return a message about a record that cannot be written."""
        return (
            f"The record {self.path} cannot be written ({error.strerror}). The run goes on, but should its "
            "process die, another one would not know all of it"
        )

    def save(self, **changes: Any) -> None:
        """Write the record, with changed fields."""
        self.record = attrs.evolve(self.record, **changes)
        draft = self.path / f"run.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(json.dumps({"version": _VERSION, **attrs.asdict(self.record)}).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / "run.json")
        sync_folder(self.path)

    def reload(self) -> RunRecord:
        self.record = self.open(self.path).record
        return self.record

    def claim(self, check: Callable[[], None] = lambda: None, **changes: Any) -> bool:
        """Lock the run until this process ends or passes the lock on; return whether this succeeded.

        Args:
            check: Called once the run is locked; if it raises, the record stays as it is.
            changes: Fields of the record to change after locking.
        """
        for _ in range(_CLAIM_ATTEMPTS):
            lock = lock_file(self.path / "lock")
            if lock >= 0:
                self._lock = lock
                try:
                    self.reload()
                    check()
                    self.save(**{"pid": os.getpid(), "host": this_host(), **changes})
                except BaseException:
                    self.unlock()
                    raise
                return True
            if self._is_held():
                return False
        return False

    def _is_held(self) -> bool:
        """Return whether a process holds the exclusive lock; readers of the state share the lock."""
        lock = lock_file(self.path / "lock", is_shared=True)
        if lock >= 0:
            os.close(lock)
        return lock < 0

    def lend(self, start: Callable[[int], int]) -> None:
        """Pass the lock to a new process, so that no other process can take it in between.

        Args:
            start: Starts a process that inherits the given descriptor, and returns its pid.
        """
        try:
            self.save(pid=start(self._lock), host=this_host())
        finally:
            self.unlock()

    def unlock(self) -> None:
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def inherit(self, lock: int) -> None:
        """Take over the lock from the parent of this process."""
        os.set_inheritable(lock, False)  # noqa: FBT003 - has no name; ssh must not hold it
        self._lock = lock

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended and its process still runs."""
        return self.state in {"renting", "running", "holding"}

    def stop(self, *, now: bool = False) -> None:
        """Ask the run's process to end the run; asking again changes nothing, unless the pod is held.

        Args:
            now: Whether to delete the pod at once.

        Raises:
            As :meth:`signal`.
        """
        # Send SIGCONT, too, since the process may be suspended.
        number = STOP_SIGNALS[now and -1] if STOP_SIGNALS else signal.SIGTERM
        self.signal(number, getattr(signal, "SIGCONT", number))

    def signal(self, *signals: int) -> None:
        """Send signals to the run's process.

        Raises:
            ConfigError: The process is on another machine, or in another container.
            PermissionError: The process is another user's.
            ProcessLookupError: The process has ended, none is recorded, or (on Linux) it does not have the
                run's lock file open.
        """
        record = self.reload()
        if record.host and record.host != this_host():
            raise ConfigError(
                f"The process of {self.name} is on the host {record.host[0]}, or in another container: it "
                f"was not stopped. Run `primepods stop {self.name}` there, or delete its pod from here: "
                f"`primepods delete {record.pod_id or 'POD'}`"
            )
        # To the system, 0 and negative numbers are groups of processes.
        if record.pid <= 0 or not self._has_lock(record.pid):
            raise ProcessLookupError(errno.ESRCH, f"no process is recorded for the run {self.name}")
        if sys.platform == "win32":
            # There, os.kill would end the process at once, and leave its pod.
            raise ConfigError(
                f"On Windows, {self.name} cannot be stopped by another process: press Ctrl-C where it runs."
            )
        for number in signals:
            os.kill(record.pid, number)

    def _has_lock(self, pid: int) -> bool:
        """Return whether a process has the lock file open; ``True`` if that cannot be seen.

        It cannot if the process has ended, without ``/proc``, or without the right to look.
        """
        is_denied = False
        try:
            files = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return True
        for file in files:
            try:
                if file.samefile(self.path / "lock"):
                    return True
            except PermissionError:
                is_denied = True
            except OSError:  # it was closed meanwhile
                continue
        return is_denied

    @property
    def state(self) -> str:
        """State of the run.

        It is ``renting``, ``running``, ``holding`` while its pod is held for a missing result, ``ended``, or
        ``interrupted`` if its process has died.
        """
        if self.record.exit_code is not None:
            return "ended"
        if self._lock < 0 and not self._is_held():
            return "interrupted"
        if self.record.held_until is not None:
            return "holding"
        return "running" if self.record.job else "renting"

    def files(self, node: int) -> dict[Stream, Path]:
        """Return the files with a node's output, such as ``stdout`` of node 0 and ``stdout-1`` of node 1."""
        suffix = f"-{node}" if node else ""
        return {"stdout": self.path / f"stdout{suffix}", "stderr": self.path / f"stderr{suffix}"}

    def sizes(self) -> tuple[int, ...]:
        """Return the sizes of the output files, two for each node."""
        paths = [path for node in range(self.record.nodes) for path in self.files(node).values()]
        return tuple(path.stat().st_size if path.exists() else 0 for path in paths)

    @property
    def may_have_pod(self) -> bool:
        """Whether the file of a lease of it exists, so that a pod may be billed."""
        return bool(self.open_leases)

    @property
    def open_leases(self) -> list[str]:
        """Names of those files of its leases that exist."""
        files = [self.record.lease_file, *self.record.lease_files]
        return [file for file in files if file is not None and (self.path.parent.parent / file).exists()]

    def cost(self, price_hr: float = 0.0) -> float:
        """Return the approximate cost of its pods so far.

        It grows until the run has ended and no lease file is left. A kept pod counts until the run's end, and
        one that was swept until then.

        Args:
            price_hr: Price per hour to use if the record has none.
        """
        record = self.record
        if record.leased_at is None:
            return record.spent
        ended_at = record.ended_at if record.swept_at is None else record.swept_at
        until = time.time() if ended_at is None or self.may_have_pod else ended_at
        hours = max(0.0, until - record.leased_at) / 3600
        return record.spent + hours * (record.price_hr or price_hr)

    def end(self, exit_code: int, verdict: str = "") -> None:
        is_released = not self.may_have_pod
        self.save(verdict=verdict, exit_code=exit_code, ended_at=time.time(), is_released=is_released)

    @property
    def was_swept(self) -> bool:
        """Whether something else has deleted the pod of a run without a process, which is not recorded."""
        record = self.record
        return (
            record.lease_file is not None
            and record.pod_id is not None
            and not (record.is_released or record.swept_at is not None or self.may_have_pod or self.is_live)
        )

    def abandon(self) -> None:
        """End a run whose process has died, unless it may have a pod or another process has locked it.

        Record, also for a run that has ended and had left its pod, when the pod was swept.
        """
        if self.may_have_pod or not self.claim():
            return
        # `claim` has read the record again: another process may have ended the run.
        try:
            self._note_end()
        finally:
            self.unlock()

    def _note_end(self) -> None:
        record = self.record
        if not record.is_released and not self.may_have_pod:
            # The folder was changed when the lease file was removed, and perhaps later.
            changed_at = min(time.time(), self.path.parent.parent.stat().st_mtime)
            gone_at = max(changed_at, record.leased_at or record.began_at, record.ended_at or 0.0)
            # If there was a lease, something else has deleted the pod, and the cost is not exactly known.
            is_unused = record.lease_file is None
            if record.exit_code is None:
                code = record.result_without_pod
                code = _ABANDONED if code is None else code
                self.save(exit_code=code, ended_at=gone_at, is_released=is_unused)
            if not is_unused and record.swept_at is None:
                self.save(swept_at=gone_at)

    def remove(self) -> None:
        self.unlock()
        shutil.rmtree(self.path, ignore_errors=True)


def list_runs(folder: Path | None = None) -> tuple[list[Run], dict[str, str]]:
    """Return the runs of this machine, the oldest first, and the errors of unreadable runs, by name.

    Args:
        folder: The folder of leases; by default the configured one.
    """
    runs: list[Run] = []
    unreadable: dict[str, str] = {}
    folder = run_folder() if folder is None else folder / "runs"
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            run = Run.open(path)
            if run.state:  # raises if its lock cannot be used
                runs.append(run)
        except (OSError, ValueError) as exc:
            unreadable[path.name] = str(exc)
    return sorted(runs, key=lambda run: run.record.began_at), unreadable


def find_sources(name: str, pod_id: str, path: str) -> list[str]:
    """Return where a path is looked for on a pod; see ``RunRecord.sources``.

    Args:
        name: The pod, or its run, as it was given: the beginning of a run's name means the run, too.
        pod_id: The pod's id.
        path: The path.
    """
    for run in list_runs()[0]:
        if run.name == name or (run.name.startswith(name) and run.record.pod_id == pod_id):
            return run.record.sources(path)
    return [path]


def note_sweeps(runs: Iterable[Run]) -> None:
    """Record which runs without a process have lost their pods to a sweep; end them."""
    for run in runs:
        if run.was_swept:
            with suppress(OSError):  # the folder is read-only
                run.abandon()


def find_run(name: str) -> Run:
    """Return the run with a name, or the only run whose name begins with it.

    Raises:
        ValueError: No run or several match, or the record cannot be read.
    """
    found, unreadable = list_runs()
    if name in unreadable:
        raise ValueError(unreadable[name])
    runs = {run.name: run for run in found}
    chosen = (
        [runs[name]] if name in runs else [runs[other] for other in runs if name and other.startswith(name)]
    )
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        names = ", ".join(run.name for run in chosen)
        raise ValueError(f"several runs have names that begin with {name!r}: {names}. Give more of the name")
    near = difflib.get_close_matches(name, runs, cutoff=0.4)
    hint = f"Similar names: {', '.join(near)}." if near else "See `primepods runs`."
    raise ValueError(
        f"this machine has no run {name!r}. {hint} For a run of another machine, `primepods attach POD` "
        "shows its output, `primepods cp POD:PATH .` fetches a result, and `primepods delete POD` ends it"
    )


def _read(file: Path) -> bytes:
    if file.parent.is_symlink() or file.is_symlink():
        raise ValueError("it is a link")
    return read_path(file)


def _parse_record(text: bytes) -> RunRecord:
    data = json.loads(text)
    if data.pop("version", None) != _VERSION:
        raise ValueError("another version of primepods wrote it")
    for name, value in data.items():
        if not _fits(value, _field_types().get(name)):
            raise TypeError(f"its {name} is {quote(value)}")
    record = RunRecord(**data)
    if not 1 <= record.nodes <= _MAX_NODES or record.pid > _MAX_PID:
        raise ValueError(f"it has {record.nodes} nodes and the process {record.pid}")
    return record


@cache
def _field_types() -> dict[str, Any]:
    return get_type_hints(RunRecord)


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON has the type of a field; numbers are at least 0."""
    members = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, member) for member in members)
    origin = get_origin(kind) or kind
    if origin in {list, tuple}:
        is_pair = origin is tuple and Ellipsis not in members
        return (
            is_list(value)
            and (not is_pair or len(value) == len(members))
            and all(_fits(item, members[0]) for item in value)
        )
    if origin is dict:
        return is_object(value) and all(_fits(item, members[1]) for item in value.values())
    if origin in {int, float}:
        return type(value) in {int, origin} and 0 <= value <= _MAX_NUMBER
    return kind is Any or (kind is not None and isinstance(value, kind))


def run_folder() -> Path:
    return lease_folder().absolute() / "runs"
