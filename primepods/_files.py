"""Locks and synced writes of files that processes share.

The system releases a lock when no process has its descriptor open.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]  # on other systems, it is a module

_UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOCK_INTERVAL: Final = 0.02


def lock(descriptor: int) -> bool | None:
    """Lock an open file; return whether this succeeded, or ``None`` where files cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def lock_file(path: Path, *, is_shared: bool = False, attempts: int = 5) -> int:
    """Open or create a file and lock it; return its descriptor, or -1 if another lock prevents that.

    On Windows, the file is not locked. On a file system without locks, ``OSError`` is raised.

    Args:
        path: The file.
        is_shared: Whether to take a shared lock, in one attempt.
        attempts: Max attempts, with pauses of 20 ms.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl is None:
        return descriptor
    for attempts_left in reversed(range(1 if is_shared else attempts)):
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempts_left:
                time.sleep(_LOCK_INTERVAL)
        except OSError:
            os.close(descriptor)
            raise
        else:
            return descriptor
    os.close(descriptor)
    return -1


def append_line(descriptor: int, line: bytes) -> None:
    """Append a newline and a line to an open file, and sync the file.

    The newline comes first, so that the line is readable even after a truncated line.
    """
    # os.write may write only a part on a full disk, without an error. "wb" does not truncate a descriptor.
    with open(descriptor, "wb", closefd=False) as file:
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line)
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a power failure."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
