"""A file for each order of a lease, written before the order: what a process that dies leaves to a sweep.

The file says which pod, at which API, under which key (a fingerprint, never the key) and whose process. While
the process lives it holds a lock on the file, which the operating system drops with the process, however it
ends. A child of a fork closes its copy of the file, so that it never keeps the lock of a parent that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import socket
import stat
import threading
import weakref
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import attrs
from attrs.validators import instance_of, optional

from .._utils.unique_names import UniqueName, is_unique
from ..config import Settings
from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]  # as said

log = logging.getLogger("primepods")

_SUFFIX: Final = ".json"
_DRAFT: Final = ".draft"
_DRAFT_SECONDS: Final = 24 * 3600.0
"""Age of a draft that its process must have left: writing one takes milliseconds."""
_VERSION: Final = 2
_MAX_SIZE: Final = 65_536
_MAX_TEXT: Final = 1_000
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def _is_text(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise TypeError(attribute.name)
    # Half of a surrogate pair could not be printed.
    value.encode()


def _is_optional_text(record: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        _is_text(record, attribute, value)


def _is_price(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise TypeError(attribute.name)


def _to_name(value: Any) -> UniqueName:
    if not isinstance(value, str) or not is_unique(value):
        raise TypeError("name")
    return UniqueName(value)


@attrs.frozen(kw_only=True)
class LeaseRecord:
    """What a lease's file says. A field that is added needs a default: files of earlier versions lack it.

    Attributes:
        name: The pod's unique name.
        pod_id: Its id; ``None`` until the API has answered the order.
        price_hr: Price per hour; ``None`` while it is not known.
        base_url: Address of the API.
        key_fingerprint: Tells keys apart; the key cannot be found from it.
        team_id: The team that it was rented for.
        host: Name of the machine.
        boot_id: Tells the starts of a system apart, and machines of one name; ``None`` if unknown.
        pid_namespace: Where ``pid`` means something; ``None`` if unknown.
        pid: The process that holds the lease.
        process_start: When that process was started, in the system's units; ``None`` if unknown.
        ordered_at: When the order was about to be sent, by the server's time.
        given_up: Whether that process has tried to delete the pod, and tries no more.
        is_refused: Whether the API refused the order, though it may have carried it out.
    """

    name: UniqueName = attrs.field(converter=_to_name, validator=_is_text)
    pod_id: str | None = attrs.field(default=None, validator=_is_optional_text)
    price_hr: float | None = attrs.field(default=None, validator=_is_price)
    base_url: str = attrs.field(validator=_is_text)
    key_fingerprint: str = attrs.field(validator=_is_text)
    team_id: str | None = attrs.field(default=None, validator=_is_optional_text)
    host: str = attrs.field(validator=_is_text)
    boot_id: str | None = attrs.field(default=None, validator=_is_optional_text)
    pid_namespace: str | None = attrs.field(default=None, validator=_is_optional_text)
    pid: int = attrs.field(validator=instance_of(int))
    process_start: int | None = attrs.field(default=None, validator=optional(instance_of(int)))
    ordered_at: datetime = attrs.field(validator=instance_of(datetime))
    given_up: bool = attrs.field(default=False, validator=instance_of(bool))
    is_refused: bool = attrs.field(default=False, validator=instance_of(bool))

    def is_orphaned(self, older_than: float | None) -> bool:
        """Whether perhaps no process cares for the pod any more, as far as can be told without the lock.

        Whether a process elsewhere lives cannot be seen: only its age can tell, if the caller says so.
        """
        if self.given_up:
            return True
        if self.is_elsewhere:
            return older_than is not None
        return self.process_start is None or self.is_dead

    @property
    def is_elsewhere(self) -> bool:
        """Whether the process is another machine's, another container's, or of before the last start."""
        return (self.host, self.boot_id, self.pid_namespace) != (
            socket.gethostname(),
            _boot_id(),
            _pid_namespace(),
        )

    @property
    def is_dead(self) -> bool:
        """Whether the process has provably ended; without Linux's ``/proc`` nothing is proved."""
        is_known = not self.is_elsewhere and self.process_start is not None
        return is_known and _process_start(self.pid) != self.process_start


def fingerprint(settings: Settings) -> str:
    """Return what tells the settings' API key apart from others."""
    return hashlib.blake2b(settings.api_key.encode(), digest_size=8, person=b"primepods").hexdigest()


def new_record(name: str, settings: Settings, team_id: str | None, now: float | None = None) -> LeaseRecord:
    """Return the record of a pod that this process is about to order.

    Args:
        name: The pod's unique name.
        settings: The client's settings.
        team_id: The team that it is rented for.
        now: The server's time, if it is known.
    """
    return LeaseRecord(
        name=name,
        base_url=settings.base_url,
        key_fingerprint=fingerprint(settings),
        team_id=team_id,
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()),
        ordered_at=as_time(settings.clock.wall() if now is None else now),
    )


def as_time(seconds: float) -> datetime:
    """Return seconds since the epoch as a time."""
    return datetime.fromtimestamp(seconds, UTC)


class LeaseFile:
    """The file of one order, locked by this process until it is removed or closed.

    Writing waits for the disk: in an event loop, call :meth:`create` and :meth:`update` in a thread.

    Args:
        path: Where it is.
        record: What it says.
        descriptor: The open file that holds the lock.
    """

    def __init__(self, path: Path, record: LeaseRecord, descriptor: int) -> None:
        self.path = path
        self.record = record
        self._descriptor = descriptor
        self._process = os.getpid()
        self._is_removed = False
        self._writing = threading.Lock()
        _open_files.add(self)

    @classmethod
    def create(cls, folder: Path, record: LeaseRecord) -> Self:
        """Write a new file.

        Raises:
            ConfigError: The folder cannot be written.
        """
        try:
            # The program may change its directory while it leases.
            path = folder.absolute() / f"{os.urandom(8).hex()}{_SUFFIX}"
            return cls(path, record, _write(path, record))
        except OSError as exc:
            msg = (
                f"The folder {folder} cannot be written ({exc.strerror}): nothing was rented, since the pod "
                "could be forgotten. Make it writable, or set PRIMEPODS_STATE_DIR to another folder."
            )
        raise ConfigError(msg)

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Take over a file whose process has ended; ``None`` if it lives, or the file is gone.

        Raises:
            OSError: It cannot be read.
            ValueError: The file is not a lease's.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | _NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if _lock(descriptor) and _is_still(path, descriptor):
                return cls(path, read_record(path), descriptor)
        except LocksUnavailableError:
            os.close(descriptor)
            record = read_record(path)
            return cls(path, record, -1) if record.given_up or record.is_dead else None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def update(self, **changes: Any) -> None:
        """Write down what has become known; where that fails, the log says so and the old file stays."""
        with self._writing:
            if self._process != os.getpid() or self._is_removed:
                # The child of a fork: the file is its parent's.
                return
            self.record = attrs.evolve(self.record, **changes)
            try:
                descriptor = _write(self.path, self.record)
            except OSError as exc:
                log.warning("the file %s of pod %r cannot be written: %s", self.path, self.record.name, exc)
                return
            self.close()
            self._descriptor = descriptor

    def is_lost(self) -> bool:
        """Tell whether somebody has removed the file, or its folder, of a lease that goes on."""
        return self._process == os.getpid() and not self._is_removed and not self.path.exists()

    def remove(self) -> None:
        """Delete the file: there is nothing left to sweep, or the pod shall go on."""
        with self._writing:
            if self._process == os.getpid():
                self._is_removed = True
                try:
                    self.path.unlink(missing_ok=True)
                except OSError as exc:
                    log.warning(
                        "the file %s of pod %r is needed no more, and cannot be removed: %s",
                        *(self.path, self.record.name, exc),
                    )
            self.close()

    def close(self) -> None:
        """Let go of the lock, and so leave the file to a sweep."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@attrs.frozen
class Ledger:
    """What a folder of leases holds.

    Attributes:
        records: What each file says, drafts among them that a process has left before it could rename them.
        unreadable: Why each of the others cannot be read: it may speak for a pod.
    """

    records: dict[Path, LeaseRecord]
    unreadable: dict[Path, str]


def read_ledger(folder: Path) -> Ledger:
    """Read all files of leases.

    Raises:
        ConfigError: What the folder holds cannot be told.
    """
    ledger = Ledger({}, {})
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in {_SUFFIX, _DRAFT})
    except FileNotFoundError:
        return ledger
    except OSError as exc:
        msg = (
            f"The folder {folder} with the files of leases cannot be read ({exc.strerror}). Make it "
            "readable, or set PRIMEPODS_STATE_DIR to the folder that was used."
        )
        raise ConfigError(msg) from None
    for path in paths:
        try:
            ledger.records[path] = read_record(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            if path.suffix == _SUFFIX:
                ledger.unreadable[path] = str(exc)
    return ledger


def remove_broken_drafts(ledger_folder: Path, now: float) -> None:
    """Remove drafts that cannot be read, whose processes were killed while they wrote, a day ago or more."""
    for draft in ledger_folder.glob(f"*{_DRAFT}"):
        with contextlib.suppress(OSError):
            if now - draft.stat().st_mtime > _DRAFT_SECONDS and not _is_record(draft):
                draft.unlink()


def _is_record(path: Path) -> bool:
    try:
        read_record(path)
    except ValueError:
        return False
    return True


class LocksUnavailableError(Exception):
    """Whether the process of a lease lives cannot be told on this file system."""


def _write(path: Path, record: LeaseRecord) -> int:
    """Put a file at ``path`` in one step, whole, locked and on the disk; return its descriptor."""
    data = {"version": _VERSION, **attrs.asdict(record), "ordered_at": record.ordered_at.isoformat()}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.stem}-{os.urandom(4).hex()}{_DRAFT}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(LocksUnavailableError):
            _lock(descriptor)
        # Not os.write: where room runs out it writes a part, and raises nothing.
        with open(descriptor, "wb", closefd=False) as file:
            file.write(json.dumps(data, indent=1).encode())
        os.fsync(descriptor)
        draft.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    if fcntl is None:
        # An open file could neither be replaced nor deleted there.
        os.close(descriptor)
        return -1
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Have the new name outlive a power failure, where the system can do that."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


_NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)


def read_record(path: Path) -> LeaseRecord:
    """Return what the file of a lease says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a lease's, or a later version's.
    """
    # A pipe must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        text = file.read(_MAX_SIZE + 1)
    if len(text) > _MAX_SIZE:
        raise ValueError(f"it is longer than {_MAX_SIZE} bytes")
    try:
        data: Any = json.loads(text)
        version = data["version"]
        if version != _VERSION:
            raise ValueError(f"it is of version {version!r}, and this primepods reads version {_VERSION}")
        known = {field.name for field in attrs.fields(LeaseRecord)} & data.keys()
        fields: dict[str, Any] = {name: data[name] for name in known}
        fields["ordered_at"] = datetime.fromisoformat(fields["ordered_at"]).astimezone(UTC)
        return LeaseRecord(**fields)
    except (AttributeError, KeyError, TypeError, RecursionError, OverflowError) as exc:
        raise ValueError(f"it is not a lease's: {type(exc).__name__}") from None


def _lock(descriptor: int) -> bool:
    """Take the lock, if nobody else has it.

    Raises:
        LocksUnavailableError: There are no locks here.
    """
    if fcntl is None:
        raise LocksUnavailableError
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in _NO_LOCKS:
            raise LocksUnavailableError from None
        raise
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether a file was not replaced between opening and locking it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _process_start(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the system was; Linux only.

    ``None`` if it has ended, also where its parent has not noticed, as in a container without an init.
    """
    try:
        # The name of the command, in parentheses, may hold spaces, and be cut within a character.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in {b"Z", b"X"} else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


@cache
def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


_open_files: weakref.WeakSet[LeaseFile] = weakref.WeakSet()


def _close_copies() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)
