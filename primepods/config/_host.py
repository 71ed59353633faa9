"""Identity of the host on which process ids are valid: the machine, its boot and the container."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path


def this_host() -> tuple[str, str | None, str | None]:
    """Return the machine's name, and on Linux the id of its boot and the PID namespace of this process."""
    return socket.gethostname(), _boot_id(), _pid_namespace()


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
