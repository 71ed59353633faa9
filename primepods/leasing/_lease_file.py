"""The file of one order, written before the order; a sweep reads it if the process dies.

While the process lives, it holds a lock on the file. A forked child closes its copy of the open file, because
that copy would keep the lock after the end of the parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import Any, Final, Self

import attrs

from ..errors import ConfigError
from ._locks import HAS_LOCKS, NOT_SUPPORTED, LocksUnavailableError, lock
from ._record import NONBLOCK, VERSION, LeaseRecord, read_record

log = logging.getLogger("primepods")

SUFFIX: Final = ".json"
DRAFT: Final = ".draft"


class LeaseFile:
    """The file of one order, locked by this process until it is removed or closed.

    Writing waits for the disk: in an event loop, call :meth:`create` and :meth:`update` in a thread.

    Args:
        path: Path of the file.
        record: Content of the file.
        descriptor: The open file, locked where locks exist; -1 if it is closed.
    """

    def __init__(self, path: Path, record: LeaseRecord, descriptor: int) -> None:
        self.path = path
        self.record: LeaseRecord = record
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._is_removed = False
        self._writing = threading.Lock()
        _open_files.add(self)

    @classmethod
    def create(cls, folder: Path, record: LeaseRecord) -> Self:
        """Write a new file.

        Raises:
            ConfigError: The folder cannot be written.
        """
        file = None
        try:
            # Absolute, since the program may change its directory while it leases.
            path = folder.absolute() / f"{os.urandom(8).hex()}{SUFFIX}"
            file = cls(path, record, _write(path, record))
            _sync_folder(path.parent)
        except OSError as exc:
            if file is not None:
                file.remove()
            msg = (
                f"The folder {folder} cannot be written ({exc.strerror}): nothing was rented, since the pod "
                "could be forgotten. Make it writable, or set PRIMEPODS_STATE_DIR to another folder."
            )
        else:
            return file
        raise ConfigError(msg)

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Return and lock a file whose process has ended; ``None`` if the process lives or the file is gone.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is not a lease's.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if lock(descriptor) and _is_same_file(path, descriptor):
                return cls(path, read_record(path), descriptor)
        except LocksUnavailableError:
            os.close(descriptor)
            return cls._claim_without_lock(path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @classmethod
    def _claim_without_lock(cls, path: Path) -> Self | None:
        record = read_record(path)
        return cls(path, record, -1) if record.given_up or record.is_dead else None

    @property
    def _is_own(self) -> bool:
        """Whether this process opened the file; in a forked child, the file is the parent's."""
        return self._pid == os.getpid()

    def update(self, **changes: Any) -> None:
        """Write changed fields; log a failure. Until the new file is complete, the old one stays."""
        with self._writing:
            if not self._is_own or self._is_removed:
                return
            self.record = attrs.evolve(self.record, **changes)
            try:
                old, self._descriptor = self._descriptor, _write(self.path, self.record)
                _close(old)
                _sync_folder(self.path.parent)
            except OSError as exc:
                log.warning(
                    "the file %s of pod %r cannot be written safely: %s", self.path, self.record.name, exc
                )

    def is_lost(self) -> bool:
        """Return whether something other than :meth:`remove` has removed the file."""
        return not self._is_removed and not self.path.exists()

    def remove(self) -> None:
        """Delete the file: nothing is left to sweep, or the pod is kept."""
        with self._writing:
            if self._is_own:
                self._is_removed = True
                try:
                    self.path.unlink(missing_ok=True)
                except OSError as exc:
                    log.warning(
                        "the file %s of pod %r is no longer needed, but cannot be removed: %s",
                        self.path,
                        self.record.name,
                        exc,
                    )
            self.close()

    def close(self) -> None:
        """Release the lock, so that a sweep can claim the file."""
        descriptor, self._descriptor = self._descriptor, -1
        _close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _write(path: Path, record: LeaseRecord) -> int:
    """Write a file atomically, locked and synced, but not its folder; return the descriptor."""
    data = {"version": VERSION, **attrs.asdict(record), "ordered_at": record.ordered_at.isoformat()}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.stem}-{os.urandom(4).hex()}{DRAFT}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(LocksUnavailableError):
            lock(descriptor)
        # os.write may write only a part on a full disk, without an error.
        with open(descriptor, "wb", closefd=False) as file:
            file.write(json.dumps(data, indent=1).encode())
        os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    if not HAS_LOCKS:
        # On systems without these locks (Windows), an open file can be neither replaced nor deleted.
        os.close(descriptor)
        return -1
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the new name survives a power failure."""
    if not HAS_LOCKS:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still at its path, and was not replaced before it was locked."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_open_files: weakref.WeakSet[LeaseFile] = weakref.WeakSet()


def _close_copies() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)
