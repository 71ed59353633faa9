"""A file for each lease, written before anything is rented: what a process that dies leaves to :meth:`sweep`.

The file says which pod, at which API, under which key (a fingerprint, never the key) and whose process. While
the process lives it holds a lock on the file, which the operating system drops with the process, however it
ends. A child of a fork closes its copy of the file, so that it never keeps the lock of a parent that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import attrs

from ..config import Settings
from ..errors import ConfigError
from ..models import Pod

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]  # as said

_SUFFIX: Final = ".json"
_DRAFT: Final = ".draft"
_DRAFT_SECONDS: Final = 24 * 3600.0
"""Age of a draft that its process must have left: writing one takes milliseconds."""
_VERSION: Final = 1
_CLOCK_SKEW: Final = timedelta(seconds=60)
"""By how much this machine's clock may differ from the server's."""
_MADE_WITHIN: Final = timedelta(minutes=10)
"""How long after the beginning of an order its pod can be made; a call ends after two minutes by default."""
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@attrs.frozen(kw_only=True)
class LeaseRecord:
    """What a lease's file says. A field that is added needs a default: files of earlier versions lack it.

    Attributes:
        name: The pod's name.
        pod_id: Its id; ``None`` until the API has answered the order.
        price_hr: Price per hour; ``None`` while it is not known.
        base_url: Address of the API.
        key_fingerprint: Tells keys apart; the key cannot be found from it.
        team_id: The team that it was rented for.
        host: Name of the machine.
        pid: The process that holds the lease.
        process_start: When that process was started, in the system's units; ``None`` if unknown.
        ordered_at: When the order was about to be sent.
        given_up: Whether that process has tried in vain to delete the pod, and tries no more.
    """

    name: str
    pod_id: str | None = None
    price_hr: float | None = None
    base_url: str
    key_fingerprint: str
    team_id: str | None = None
    host: str
    pid: int
    process_start: int | None = None
    ordered_at: datetime
    given_up: bool = False

    def is_orphaned(self, older_than: float | None) -> bool:
        """Whether perhaps nobody cares for the pod any more, as far as can be told without the file's lock.

        Whether a process of another host lives cannot be seen: only its age can tell, if the caller says so.
        """
        if self.given_up:
            return True
        if self.is_elsewhere:
            return older_than is not None
        return self.process_start is None or self.is_dead

    @property
    def is_elsewhere(self) -> bool:
        """Whether another host's process holds the lease."""
        return self.host != socket.gethostname()

    @property
    def is_dead(self) -> bool:
        """Whether the process has provably ended; without Linux's ``/proc`` nothing is proved."""
        is_known = not self.is_elsewhere and self.process_start is not None
        return is_known and _process_start(self.pid) != self.process_start

    def is_of(self, pod: Pod) -> bool:
        """Whether a pod can be the one that was ordered: it has the name, and was made when that was."""
        if pod.name != self.name or pod.created_at is None:
            return pod.name == self.name
        return -_CLOCK_SKEW <= pod.created_at - self.ordered_at <= _MADE_WITHIN + _CLOCK_SKEW


def fingerprint(settings: Settings) -> str:
    """Return what tells the settings' API key apart from others."""
    return hashlib.blake2b(settings.api_key.encode(), digest_size=8, person=b"primepods").hexdigest()


def new_record(name: str, settings: Settings, team_id: str | None) -> LeaseRecord:
    """Return the record of a pod that this process is about to order."""
    return LeaseRecord(
        name=name,
        base_url=settings.base_url,
        key_fingerprint=fingerprint(settings),
        team_id=team_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()),
        ordered_at=datetime.fromtimestamp(settings.clock.wall(), UTC),
    )


class LeaseFile:
    """The file of one lease, locked by this process until it is removed or closed.

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
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
            ValueError: The file is not a lease's.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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
        """Write down what has become known; an old file stays if the new one cannot be written."""
        if self._process != os.getpid():
            # The child of a fork: the file is its parent's.
            return
        self.record = attrs.evolve(self.record, **changes)
        descriptor = _write(self.path, self.record)
        self.close()
        self._descriptor = descriptor

    def remove(self) -> None:
        """Delete the file: there is nothing left to sweep, or the pod shall go on."""
        if self._process == os.getpid():
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock, and so leave the file to a sweep."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def lease_paths(folder: Path) -> list[Path]:
    """Return where all files of leases are, whosoever they are.

    Raises:
        ConfigError: What the folder holds cannot be told.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as exc:
        msg = (
            f"The folder {folder} with the files of leases cannot be read ({exc.strerror}). Make it "
            "readable, or set PRIMEPODS_STATE_DIR to the folder that was used."
        )
    raise ConfigError(msg)


def lease_files(folder: Path) -> Iterator[tuple[Path, LeaseRecord]]:
    """Yield all files of leases; what cannot be read as one is passed over."""
    for path in lease_paths(folder):
        with contextlib.suppress(OSError, ValueError):
            yield path, read_record(path)


def remove_abandoned_drafts(folder: Path, now: datetime) -> None:
    """Remove what processes have left that were killed while they wrote a file, before they ordered a pod."""
    for draft in folder.glob(f"*{_DRAFT}"):
        with contextlib.suppress(OSError):
            if now.timestamp() - draft.stat().st_mtime > _DRAFT_SECONDS:
                draft.unlink()


class LocksUnavailableError(Exception):
    """Whether the process of a lease lives cannot be told on this file system."""


def _write(path: Path, record: LeaseRecord) -> int:
    """Put a file at ``path`` in one step, whole and locked; return its descriptor."""
    data = {"version": _VERSION, **attrs.asdict(record), "ordered_at": record.ordered_at.isoformat()}
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
    except BaseException:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    if fcntl is None:
        # An open file could neither be replaced nor deleted there.
        os.close(descriptor)
        return -1
    return descriptor


def read_record(path: Path) -> LeaseRecord:
    """Return what the file of a lease says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a lease's.
    """
    data: Any = json.loads(path.read_bytes())
    try:
        # A later version may have written more.
        known = {field.name for field in attrs.fields(LeaseRecord)} & data.keys()
        fields: dict[str, Any] = {name: data[name] for name in known}
        fields["ordered_at"] = datetime.fromisoformat(fields["ordered_at"])
        return LeaseRecord(**fields)
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(exc) from None


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
    """Return when a process was started, in clock ticks since the system was; Linux only."""
    try:
        # The name of the command, in parentheses, may hold spaces.
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


_open_files: weakref.WeakSet[LeaseFile] = weakref.WeakSet()


def _close_copies() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)
