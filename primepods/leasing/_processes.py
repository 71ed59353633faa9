"""Identify processes: by their start, the boot of the system, and the namespace of their ids."""

from __future__ import annotations

from functools import cache
from pathlib import Path


def process_start(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the boot.

    Returns:
        ``None`` if the process has ended or is a zombie, and on systems other than Linux.
    """
    try:
        # The command's name, in parentheses, may contain spaces, parentheses and invalid UTF-8.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        # Fields 3 and 22 in proc(5); the command's name is field 2.
        state, start = fields[0], fields[19]
        return None if state in {b"Z", b"X"} else int(start)
    except (OSError, ValueError, IndexError):
        return None


@cache
def boot_id() -> str | None:
    """Return an id of the current boot; Linux only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def pid_namespace() -> str | None:
    """Return the namespace of this process's id; Linux only."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
