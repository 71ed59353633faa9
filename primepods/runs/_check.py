"""Check a run as a whole before its first request."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from .._utils.arguments import check_amount, check_interval, check_seconds
from .._utils.text import quote, short_duration
from ..errors import TransferError
from ..remote import SSHOptions, check_job_name, check_target, check_work
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
    SSHOptions(ssh_command=record.lease.get("ssh_command", "ssh"))
    check_seconds("ready_timeout", record.lease.get("ready_timeout", 1.0))
    check_interval(record.lease.get("interval", 1.0))
    limits = {"max_price": record.changes.get("max_price"), **record.lease}
    for limit in ("max_price", "max_hours", "max_spend"):
        if (value := limits.get(limit)) is not None:
            check_amount(limit, value, "number")
    for local, _ in record.uploads:
        if not (Path(local).is_file() or Path(local).is_dir()):
            problem = "is not a file or a folder" if os.path.lexists(local) else "does not exist"
            raise ValueError(f"--upload {local} {problem}")
    _check_targets(record)
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


def _check_targets(record: RunRecord) -> None:
    """Check the local targets of downloads, since the results could be lost with the pod.

    Raises:
        ValueError: A target cannot be written, or two downloads have the same one.
    """
    places: set[str] = set()
    for remote, local in record.downloads:
        option = f"--download {remote}:{local}"
        target = Path(local)
        try:
            check_target(target)
        except TransferError as exc:
            raise ValueError(f"{option}: {exc}") from None
        if os.path.lexists(target) and not (target.is_file() or target.is_dir()):
            raise ValueError(f"{option}: {target} is not a file or a folder")
        if local.endswith(("/", os.sep)) and os.path.lexists(target) and not target.is_dir():
            raise ValueError(f"{option}: {local} is not a folder")
        existing = next(path for path in (target, *target.parents) if os.path.lexists(path))
        # An existing file is replaced by a new one in its folder. Nothing can be written below a file.
        folder = target.parent if existing == target and not target.is_dir() else existing
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise ValueError(f"{option}: {target} cannot be created or replaced; check {existing}")
        is_folder = local.endswith(("/", os.sep)) or target.is_dir()
        # A file goes into a folder. Two different folders, or files, may go into the same folder.
        place = os.path.normpath(target / posixpath.basename(remote.rstrip("/")) if is_folder else target)
        if place in places:
            raise ValueError(f"{option}: {place} is the target of two downloads")
        places.add(place)
