"""The files of leases, one for each order, by which a sweep finds the pods of dead processes.

Before its order is sent, a file is complete, on the disk, and locked where locks exist. A later change
appends a line, because a new file would need a new lock. The system releases the lock when the process ends.
A forked child closes its copies of open files: they would keep the locks after the end of the parent.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import attrs

from .._utils.files import NONBLOCK, append_line, read_path, read_regular_file, sync_folder, try_lock
from .._utils.unique_names import unique_name
from ..config import Settings
from ..errors import ConfigError
from ._lease_record import LeaseRecord as LeaseRecord  # noqa: PLC0414 - other rooms name it
from ._lease_record import new_record, parse_record

log: Final = logging.getLogger("primepods")

_SUFFIX: Final = ".json"
_DRAFT: Final = ".draft"
_MAX_SIZE: Final = 65_536


class LeaseFile:
    """The file of one order.

    Writing waits for the disk: in an event loop, call :meth:`write` and :meth:`update` in a thread.

    Args:
        path: Path of the file.
        record: Content of the file.
        descriptor: The open file, locked where locks exist; -1 if it is not open.
    """

    def __init__(self, path: Path, record: LeaseRecord, descriptor: int = -1) -> None:
        self.path = path
        self.record: LeaseRecord = record
        self._descriptor = descriptor
        # False after `remove`, and in a forked child, since the file is the parent's.
        self._is_own = True
        self._writing = threading.Lock()
        _open_files.add(self)

    @classmethod
    def new(cls, folder: Path, record: LeaseRecord) -> Self:
        """Return a new file, which is not written yet."""
        # An absolute path, since the program may change its working directory.
        return cls(folder.absolute() / f"{os.urandom(8).hex()}{_SUFFIX}", record)

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Lock and return the file of a process that has ended or given up.

        Returns:
            The file; ``None`` if it is gone or locked, or its process may still run.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is not a lease file, or has an unknown version.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | NONBLOCK)
        except FileNotFoundError:
            return None
        file: Self | None = None
        try:
            is_locked = try_lock(descriptor)
            # Another sweep may have removed the file before it was locked here.
            if is_locked is not False and os.fstat(descriptor).st_nlink > 0:
                record = parse_record(read_regular_file(descriptor, _MAX_SIZE))
                if is_locked or record.given_up or record.is_dead:
                    file = cls(path, record, descriptor)
        finally:
            if file is None:
                os.close(descriptor)
        return file

    def write(self) -> Self:
        """Lock, write and sync a draft; rename it to the file's name, and sync the folder.

        Raises:
            ConfigError: The folder cannot be written.
        """
        folder = self.path.parent
        try:
            with self._writing:
                if self._is_own:
                    self._create()
        except OSError as exc:
            self.remove()
            raise ConfigError(
                f"The folder {folder} cannot be written ({exc.strerror}): nothing was rented, "
                "since no sweep could find the pod after a crash. Make it writable, or set "
                "PRIMEPODS_STATE_DIR to another folder."
            ) from None
        return self

    def _create(self) -> None:
        folder, draft = self.path.parent, self.path.with_suffix(_DRAFT)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        # An attribute at once, so that a forked child closes its copy.
        previous, self._descriptor = self._descriptor, os.open(draft, flags, 0o600)
        try:
            try_lock(self._descriptor)
            append_line(self._descriptor, self.record.to_line())
            if os.name == "nt":
                # On Windows, an open file cannot be renamed.
                self.close()
            draft.replace(self.path)
        except OSError:
            self.close()
            self._descriptor = previous
            with suppress(OSError):
                draft.unlink()
            raise
        if previous >= 0:
            os.close(previous)
        sync_folder(folder)

    def update(self, **changes: Any) -> None:
        """Append the record with changed fields; write the file anew if it was removed.

        A failure is only logged: the earlier lines stay.
        """
        with self._writing:
            if not self._is_own:
                return
            self.record = attrs.evolve(self.record, **changes)
            try:
                if self._descriptor >= 0:
                    append_line(self._descriptor, self.record.to_line())
                    if not self._has_name():
                        self._create()
                        text = "the file %s of pod %r was removed during its lease: it is written again"
                        log.warning(text, self.path, self.record.name)
                else:
                    # Do not create the file: after `close`, a sweep may have removed it.
                    with self.path.open("r+b") as file:
                        append_line(file.fileno(), self.record.to_line())
            except OSError as exc:
                self._warn("could not be updated, so a sweep may see its earlier content", exc)

    def _has_name(self) -> bool:
        """Return whether the open file still has its name, and a sweep finds it."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def remove(self) -> None:
        """Delete the file, because nothing is left to sweep; a failure is only logged."""
        with self._writing:
            if self._is_own:
                self._is_own = False
                try:
                    self.path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    pass
                except OSError as exc:
                    self._warn("is no longer needed, but cannot be removed", exc)
            self.close()

    def leave_to_parent(self) -> None:
        """Stop using the file, in a forked child."""
        self._is_own = False
        # Another thread of the parent may have held the lock during the fork.
        self._writing = threading.Lock()
        self.close()

    def close(self) -> None:
        """Release the lock, so that a sweep can claim the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _warn(self, problem: str, error: OSError) -> None:
        log.warning("the file %s of pod %r %s: %s", self.path, self.record.name, problem, error)


_open_files: weakref.WeakSet[LeaseFile] = weakref.WeakSet()


def _close_copies() -> None:
    for file in list(_open_files):
        file.leave_to_parent()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_copies)


@attrs.frozen
class Ledger:
    """Content of the folder of leases.

    Attributes:
        records: The record of each readable file.
        unreadable: Why a file cannot be read, for each such file; it may be the record of a pod.
    """

    records: dict[Path, LeaseRecord]
    unreadable: dict[Path, str]


def read_ledger(folder: Path) -> Ledger:
    """Read all lease files; drafts are passed over, since nothing was ordered for one.

    Args:
        folder: The folder, which need not exist.

    Raises:
        ConfigError: The folder cannot be read.
    """
    ledger = Ledger({}, {})
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return ledger
    except OSError as exc:
        raise ConfigError(
            f"The folder {folder} with the files of leases cannot be read ({exc.strerror}). Make it "
            "readable, or set PRIMEPODS_STATE_DIR to the folder that was used."
        ) from None
    for path in paths:
        try:
            ledger.records[path] = parse_record(read_path(path, _MAX_SIZE))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            ledger.unreadable[path] = str(exc)
    return ledger


def probe_folder(folder: Path, settings: Settings) -> bool:
    """Write a lease file, and remove it; return whether locks work in the folder.

    Raises:
        ConfigError: The folder cannot be written.
    """
    folder_existed = folder.exists()
    record = new_record(unique_name("trial", settings.clock.random), settings)
    file = LeaseFile.new(folder, record).write()
    try:
        with file.path.open("r+b") as other:
            has_locks = try_lock(other.fileno()) is False
    finally:
        file.remove()
    if not folder_existed:
        with suppress(OSError):  # not empty: a lease has begun since
            folder.rmdir()
    return has_locks
