"""Locks that the system releases when their process ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]  # on other systems, it is a module

_LOCK_INTERVAL: Final = 0.02


def lock_file(path: Path, *, is_shared: bool = False, attempts: int = 5) -> int:
    """Open and lock a file, which is created if needed; return -1 if another process has locked it.

    Args:
        path: The file.
        is_shared: Whether others may share the lock; then there is one attempt.
        attempts: Number of attempts, each of 20 ms.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(1 if is_shared else attempts):
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_INTERVAL)
        else:
            return descriptor
    os.close(descriptor)
    return -1
