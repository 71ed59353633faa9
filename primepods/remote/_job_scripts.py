"""Scripts that start, follow and stop jobs, and the parser of the states that they print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from .._utils.arguments import check_string
from .._utils.text import quote
from ._scripts import command_line, make_script, remote_path, variables
from .results import JobState

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_STATE: Final = re.compile(
    rf"job (?P<name>{_NAME}) (?P<started>\d{{1,11}}) "
    r"(?:(?P<running>running) - -|interrupted - -|ended (?P<ended>\d{1,11}) (?P<code>\d{1,3}))"
)


def check_job_name(name: str) -> str:
    """Check a job's name, and return it."""
    if not re.fullmatch(_NAME, check_string("name", name)):
        raise ValueError(
            "name must be 1 to 64 ASCII letters, digits, dots, hyphens or underscores, and start with a "
            f"letter or digit, got {quote(name)}"
        )
    return name


def start_script(
    command: str | Sequence[str], *, name: str, token: str, env: Mapping[str, str], cwd: str | None
) -> bytes:
    """Return the script that starts a job only once, even if it is sent several times.

    For its errors see :func:`command_script`.
    """
    folder = "." if cwd is None else remote_path("cwd", cwd)
    return job_script("start", name, token, command_line(command), folder, *variables(env))


def job_script(action: str, name: str, *arguments: str) -> bytes:
    """Return the script of an action; see ``job.sh``."""
    return make_script("job.sh", action, name, *arguments)


def parse_states(printed: str) -> Iterator[JobState]:
    """Yield the states in a script's output; ignore other lines."""
    for found in filter(None, map(_STATE.fullmatch, printed.splitlines())):
        yield JobState(
            name=found["name"],
            started_at=datetime.fromtimestamp(int(found["started"]), UTC),
            ended_at=None if found["ended"] is None else datetime.fromtimestamp(int(found["ended"]), UTC),
            exit_code=None if found["code"] is None else int(found["code"]),
            is_running=found["running"] is not None,
        )
