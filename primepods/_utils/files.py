"""Reads, locks and synced writes of files that processes share.

The system releases a lock when no process has its descriptor open.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

_UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_LOCK_INTERVAL: Final = 0.02
_MAX_SIZE: Final = 16 << 20
NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
"""With this flag, opening a pipe does not block."""


def has_locks() -> bool:
    """Return whether the system has locks of files; a file system may lack them."""
    return sys.platform != "win32"


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file; return whether this succeeded, or ``None`` where files cannot be locked."""
    if sys.platform == "win32":
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
    if sys.platform == "win32":
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


@contextmanager
def locked_file(path: Path, *, attempts: int = 1_500) -> Generator[int]:
    """Lock a file during the block, and create it and its folder if necessary; return its descriptor.

    On Windows, the file is not locked.

    Args:
        path: The file, which the block may replace at its end.
        attempts: Max attempts to lock it, with pauses of 20 ms: by default, half a minute. If it is replaced
            meanwhile, they begin again.

    Raises:
        OSError: The file cannot be used, or other processes use it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(attempts):
        descriptor = lock_file(path, attempts=attempts)
        if descriptor < 0:
            break
        # A lock is worthless if the file was removed or replaced after it was opened.
        if os.fstat(descriptor).st_nlink > 0:
            try:
                yield descriptor
            finally:
                if sys.platform != "win32":
                    # A process that was forked meanwhile would otherwise keep the lock.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)
            return
        os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "other processes use it")


def read_regular_file(descriptor: int, max_size: int = _MAX_SIZE) -> bytes:
    """Return the content of an open file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is a pipe, a device or a folder, or longer than ``max_size`` bytes.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ValueError("it is not a regular file")
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        text = file.read(max_size + 1)
    if len(text) > max_size:
        raise ValueError(f"it is longer than {max_size} bytes")
    return text


def read_path(path: Path, max_size: int = _MAX_SIZE) -> bytes:
    """Return the content of a file; raise the errors of :func:`read_regular_file`, also for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | NONBLOCK)
    try:
        return read_regular_file(descriptor, max_size)
    finally:
        os.close(descriptor)


def read_objects(descriptor: int, *, is_replaced: bool = False) -> list[dict[str, Any]]:
    """Read the JSON objects in an open file, one a line.

    Args:
        descriptor: The file.
        is_replaced: Whether :func:`replace_file` writes it, so that a truncated line is an error.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is something else, or the file is too long.
    """
    text = read_regular_file(descriptor)
    objects: list[dict[str, Any]] = []
    for line in text.split(b"\n"):
        # A process that died while it appended leaves a truncated line, or zeros.
        stripped = line.strip(b" \r\t" if is_replaced else b"\0 \r\t")
        is_cut = stripped.startswith(b"{") and not stripped.endswith(b"}")
        if not stripped or (is_cut and not is_replaced):
            continue
        try:
            objects.append({**json.loads(stripped)})
        except (TypeError, RecursionError) as exc:
            raise ValueError("a line is not an object") from exc
    return objects


def append_line(descriptor: int, line: bytes) -> None:
    """Append a newline and a line to an open file, and sync the file.

    The newline comes first, so that the line is readable even after a truncated line.
    """
    # os.write may write only a part on a full disk, without an error. "wb" does not truncate a descriptor.
    with open(descriptor, "wb", closefd=False) as file:
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line)
    os.fsync(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file, or create it; after a crash or a power failure, it has its old content or the new.

    On Windows, it is written in place, so a crash may leave a part of the new content.
    """
    if sys.platform == "win32":
        # On Windows, a file that a process has open cannot be replaced.
        path.write_bytes(data)
        return
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a power failure."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
