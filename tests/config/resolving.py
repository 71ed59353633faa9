"""Resolve settings in a test: its arguments, the official command's files, and what comes of them."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from primepods import ConfigError, RetryPolicy, config
from primepods._utils.secret import Secret
from primepods.config import DEFAULT_DEADLINE, DEFAULT_MAX_CONCURRENCY, DEFAULT_TIMEOUT, Settings, resolve

KEY = "pit_0123456789_key_of_the_tests"
OTHER = "https://other.example.com"
STAGING = "https://staging.example.com"

DEFAULTS: dict[str, Any] = {
    "api_key": None,
    "base_url": None,
    "team_id": None,
    "timeout": DEFAULT_TIMEOUT,
    "deadline": DEFAULT_DEADLINE,
    "max_concurrency": DEFAULT_MAX_CONCURRENCY,
    "retry": RetryPolicy(),
    "user_agent": None,
    "own_connections": True,
}


def settings(**arguments: Any) -> Settings:
    """Return the settings of a client with these arguments."""
    key = arguments.get("api_key")
    # As clients do, first of all.
    return resolve(**{**DEFAULTS, **arguments, "api_key": Secret(key) if isinstance(key, str) else key})


def told(**arguments: Any) -> tuple[str, str, str | None]:
    """Key, base URL and team."""
    found = settings(**arguments)
    return str(found.api_key), found.base_url, found.team_id


def refuse(**arguments: Any) -> str:
    """The message of the `ConfigError`, checked for what no message may hold or lack."""
    with pytest.raises(ConfigError) as caught:
        settings(**arguments)
    error = caught.value
    message = str(error)
    assert message.endswith(".")
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if Path(frame.filename).parent == Path(config.__file__).parent]
    for shown in (message, *(str(frame.locals) for frame in ours), repr(vars(error))):
        assert KEY not in shown
    return message


class Files:
    """The official command's files in a home of the test's own."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".prime"

    def write(self, name: str, content: Any) -> Path:
        """Write one; what is no text or bytes as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def state(self) -> list[tuple[str, int, int, bytes]]:
        """All that would change if anything were written."""
        home = self.folder.parent
        entries = [home, *sorted(home.rglob("*"))]
        return [
            (
                str(path),
                path.stat().st_mtime_ns,
                path.stat().st_mode,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in entries
        ]
