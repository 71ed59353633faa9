"""The environment variables that are read or set, and nothing else of the environment but proxies."""

from __future__ import annotations

import os
from typing import Final

from ._files import Found

API_KEY: Final = ("PRIME_API_KEY",)
BASE_URL: Final = ("PRIME_API_BASE_URL", "PRIME_BASE_URL")
TEAM_ID: Final = ("PRIME_TEAM_ID",)
CONTEXT: Final = ("PRIME_CONTEXT",)
STATE_DIR: Final = ("PRIMEPODS_STATE_DIR",)
SSH_COMMAND: Final = "PRIMEPODS_SSH_COMMAND"
"""Read by the command alone."""


def from_environment(names: tuple[str, ...]) -> Found | None:
    """Return the first of these variables that is set."""
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return Found(value, f"environment variable {name}")
    return None


def child_environment(*, base_url: str, api_key: str, lease_folder: str, ssh_command: str) -> dict[str, str]:
    """Return the environment of a child process whose clients use this API and no other.

    Args:
        base_url: The API's.
        api_key: The key.
        lease_folder: Where the files of leases go, if the environment does not say.
        ssh_command: What the command takes for ``ssh``, if the environment does not say.
    """
    settings = {*API_KEY, *BASE_URL, *TEAM_ID, *CONTEXT}
    others = {name: value for name, value in os.environ.items() if name not in settings}
    defaults = {STATE_DIR[0]: lease_folder, SSH_COMMAND: ssh_command}
    return {**defaults, **others, BASE_URL[0]: base_url, API_KEY[0]: api_key}


def environment_variable(name: str) -> str | None:
    """Return a variable that the user has named, as it is."""
    return os.environ.get(name)


def environment_without_key() -> dict[str, str]:
    """Return the environment for programs that are started: without ``PRIME_API_KEY`` and its like."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PRIME_")}
