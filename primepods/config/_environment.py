"""Environment variables that the package reads or sets, except those of proxies."""

from __future__ import annotations

import os
from typing import Final

from ._files import Found

API_KEY: Final = ("PRIME_API_KEY",)
BASE_URL: Final = ("PRIME_API_BASE_URL", "PRIME_BASE_URL")
TEAM_ID: Final = ("PRIME_TEAM_ID",)
CONTEXT: Final = ("PRIME_CONTEXT",)
STATE_DIR: Final = ("PRIMEPODS_STATE_DIR",)
MAX_HOURLY: Final = ("PRIMEPODS_MAX_HOURLY",)
SSH_COMMAND: Final = ("PRIMEPODS_SSH_COMMAND",)
WATCHDOG_KEY: Final = ("PRIMEPODS_WATCHDOG_KEY",)


def from_environment(names: tuple[str, ...]) -> Found | None:
    """Return the first of these variables that is set and not blank; ``None`` if there is none."""
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return Found(value, f"environment variable {name}")
    return None


def child_environment(
    *, base_url: str, api_key: str, watchdog_key: str, lease_folder: str, ssh_command: str
) -> dict[str, str]:
    """Return the environment for a child process whose clients use only this API.

    Args:
        base_url: The API's base URL.
        api_key: The key.
        watchdog_key: The key for watchdogs.
        lease_folder: Directory of the lease files; not that of real pods.
        ssh_command: The program to run as ``ssh``, unless the environment sets it.
    """
    settings = {*API_KEY, *BASE_URL, *TEAM_ID, *CONTEXT}
    others = {name: value for name, value in os.environ.items() if name not in settings}
    own = {BASE_URL[0]: base_url, API_KEY[0]: api_key, STATE_DIR[0]: lease_folder}
    own[WATCHDOG_KEY[0]] = watchdog_key
    # The user's limit is for real pods.
    return {SSH_COMMAND[0]: ssh_command, **others, **own, MAX_HOURLY[0]: "1e9"}


def default_ssh_command() -> str:
    """Return the command that logs in to pods: ``PRIMEPODS_SSH_COMMAND``, or ``ssh``."""
    found = from_environment(SSH_COMMAND)
    return found.value if found else "ssh"


def environment_variable(name: str) -> str | None:
    """Return the unchanged value of a variable that the user has named; ``None`` if it is not set."""
    return os.environ.get(name)


def environment_without_key(prefix: str = "PRIME_") -> dict[str, str]:
    """Return the environment for other programs, without ``PRIME_API_KEY`` and ``PRIMEPODS_WATCHDOG_KEY``.

    Args:
        prefix: Prefix of the variables to remove; ``PRIME`` also removes the settings of primepods.
    """
    prefixes = (prefix, *WATCHDOG_KEY)
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
