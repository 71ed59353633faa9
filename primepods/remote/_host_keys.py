"""Host keys of pods: the names under which ssh stores them, their file, and ssh's settings."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

from .._utils.text import quote
from ..config import lease_folder
from ..errors import ConfigError

_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SPECIAL_IN_PATHS: Final = re.compile(r"\$\{|[\"\\\x00-\x1f]")


def machine_name(pod_id: str, node: int) -> str:
    """Return the name for a node's host key, since pods reuse addresses; for the first node, the pod's id."""
    return f"{pod_id}-{node}" if node else pod_id


def host_alias(machine: str) -> str:
    """Return the alias under which ssh stores the host key of a machine."""
    if _ALIAS.fullmatch(machine):
        return machine
    return hashlib.sha256(machine.encode()).hexdigest()


def host_key_settings(machine: str) -> dict[str, str]:
    """Return ssh's settings for the stored host key of a machine; create the file of host keys if needed.

    Raises:
        ConfigError: The host keys cannot be stored.
    """
    # In the path, ssh expands a percent sign with a letter, such as %h.
    path = ensure_known_hosts().replace("%", "%%")
    return {
        # Quote the path unless it is harmless: newer versions of ssh also treat an apostrophe as a quote.
        "UserKnownHostsFile": path if re.fullmatch(r"[\w./%+@:,=-]+", path) else f'"{path}"',
        "HostKeyAlias": host_alias(machine),
        "StrictHostKeyChecking": "accept-new",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
    }


def ensure_known_hosts() -> str:
    """Create the file with the pods' host keys, and its folder, if they do not exist; return its path.

    Raises:
        ConfigError: The file cannot be written, or ssh cannot use its path.
    """
    folder = lease_folder()
    path = (folder / "known_hosts").absolute().as_posix()
    if _SPECIAL_IN_PATHS.search(path):
        raise ConfigError(
            f"ssh cannot use the folder {quote(str(folder))} for the pods' host keys: its path contains a "
            'quote, a backslash, "${" or a control character. Set PRIMEPODS_STATE_DIR to another folder.'
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # With a file that it cannot write, ssh would accept any key at every login.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as exc:
        raise ConfigError(
            f"The file {path} for the pods' host keys cannot be written: {exc.strerror}. Set "
            "PRIMEPODS_STATE_DIR to a writable folder."
        ) from None
    return path
