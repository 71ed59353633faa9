"""The environment variables that are read, and nothing else of the environment but proxies."""

from __future__ import annotations

import os
from typing import Final

from ._files import Found

API_KEY: Final = ("PRIME_API_KEY",)
BASE_URL: Final = ("PRIME_API_BASE_URL", "PRIME_BASE_URL")
TEAM_ID: Final = ("PRIME_TEAM_ID",)
CONTEXT: Final = ("PRIME_CONTEXT",)
STATE_DIR: Final = ("PRIMEPODS_STATE_DIR",)


def from_environment(names: tuple[str, ...]) -> Found | None:
    """Return the first of these variables that is set."""
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return Found(value, f"environment variable {name}")
    return None
