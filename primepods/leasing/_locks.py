"""Locks on files, which the operating system releases when a process ends, however it ends."""

from __future__ import annotations

import errno
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]  # on other systems, it is a module

HAS_LOCKS: Final = fcntl is not None
NOT_SUPPORTED: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class LocksUnavailableError(Exception):
    """The file system or the operating system has no locks."""


def lock(descriptor: int) -> bool:
    """Take the lock, and return ``True``; return ``False`` if another process has it.

    Raises:
        LocksUnavailableError: The file system or the operating system has no locks.
    """
    if fcntl is None:
        raise LocksUnavailableError
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in NOT_SUPPORTED:
            raise LocksUnavailableError from None
        raise
    return True
