"""Check a run as a whole before its first request."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from .._utils.arguments import check_seconds
from .._utils.text import quote, short_duration
from ..remote import check_job_name, check_work
from ._run import RunRecord

_MAX_NAME = 34
"""With its suffix, the name of a run fits in that of its pod, which has a suffix and an expiry, too."""


def check_run(record: RunRecord, variables: Mapping[str, str]) -> list[str]:
    """Check what a later step would refuse, before anything is rented; return warnings.

    Args:
        record: The record of the run, which need not be saved yet.
        variables: The command's environment variables.

    Raises:
        ValueError: Something is invalid.
    """
    name = record.changes.get("name")
    if name is not None:
        check_job_name(str(name))
        if len(name) > _MAX_NAME:
            raise ValueError(f"name must have at most {_MAX_NAME} characters, got {quote(name)}")
    check_work(
        record.command,
        env=variables,
        cwd=record.workdir,
        exclude=record.exclude,
        downloads=[remote for remote, _ in record.downloads],
    )
    for option in ("ready_timeout", "interval"):
        check_seconds(option, record.lease.get(option, 1.0))
    for limit in ("max_hours", "max_spend"):
        value = record.lease.get(limit)
        if value is not None and not value > 0:
            raise ValueError(f"{limit} must be above 0, got {value:g}")
    hours = record.lease.get("max_hours")
    for option, seconds in (("wind-down", record.wind_down), ("hold", record.hold)):
        typed = record.typed.get(f"--{option}")
        if typed is not None and hours is not None and seconds is not None and seconds >= 3600 * hours:
            limit = record.typed.get("--max-hours") or short_duration(3600 * hours)
            raise ValueError(f"--{option} {typed} is not shorter than --max-hours {limit}")
    warnings: list[str] = []
    for remote, _ in record.downloads:
        folder, _, rest = posixpath.normpath(remote).partition("/")
        if record.workdir and rest and folder == posixpath.normpath(record.workdir):
            warnings.append(
                f"--download {remote} is looked for in {record.workdir}, where the command runs, and then in "
                f"the home folder. Did you mean --download {rest}?"
            )
    return warnings
