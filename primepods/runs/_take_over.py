"""Take-over of a run whose process has died, and of its lease; also how to stop a run from outside."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config import environment_variable, lease_folder
from ..errors import ConfigError
from ._process import start_process
from ._run import Run

if TYPE_CHECKING:
    # Import only for types, so that `primepods --help` does not load these modules.
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease
    from ..leasing.ledger import LeaseFile, LeaseRecord

_STOP_INTERVAL = 0.2
_STOP_ATTEMPTS = 50
_CLAIM_INTERVAL = 0.05
_CLAIM_ATTEMPTS = 20


def take_over_run(run: Run) -> bool:
    """Start a process for a run whose process has died; return whether this was necessary.

    The terminal of a run without --detach is gone, so its output goes to files from now on.

    Raises:
        ConfigError: The settings are not those of the run's pod. Nothing was changed.
    """
    if run.state != "interrupted" or not run.claim(partial(_check, run), is_detached=True, pid=0):
        return False
    if run.record.exit_code is not None:  # another process has taken it over, and ended
        run.unlock()
        return False
    given = {name: environment_variable(name) for name in run.record.variables}
    process = start_process(run, {name: value for name, value in given.items() if value is not None})
    process.returncode = 0  # otherwise Popen would warn that it still runs
    return True


def stop_run(run: Run, *, now: bool = False) -> None:
    """Ask the process of a run to end it; if it has died, start another process first, which ends the run.

    Any number of callers may do so at once: one of them starts the process.

    Args:
        run: The run.
        now: Whether to delete its pod at once, without its results.

    Raises:
        ConfigError: The process is on another machine, or in another container; or it has died, and the
            settings are not those of the run's pod. Nothing was changed.
        FileNotFoundError: The record of the run was deleted.
        ProcessLookupError: The process that holds the run's lock is not recorded.
    """
    for _ in range(_STOP_ATTEMPTS):
        take_over_run(run)
        if run.state == "ended":
            return
        # The process may just have ended, or a process that takes over the run is not recorded yet.
        with suppress(ProcessLookupError):
            run.stop(now=now)
            return
        time.sleep(_STOP_INTERVAL)
    run.stop(now=now)


def has_process(run: Run) -> bool:
    """Return whether the recorded process exists, or may exist on another machine.

    A lock does not prove this: a take-over locks the run before its process is recorded.
    """
    try:
        run.signal(0)
    except ProcessLookupError:
        return False
    except (ConfigError, PermissionError):
        pass
    return True


def _check(run: Run) -> None:
    """Check that :func:`take_over_lease` would not be refused; change nothing."""
    from ..client import AsyncClient

    if run.record.exit_code is not None:
        return
    account: dict[str, Any] = run.record.client
    for file_name in run.open_leases:
        file = _claim(file_name)
        if file is not None:
            with closing(file):
                _resume(AsyncClient(**account), file, was_shown=True)


def take_over_lease(
    client: AsyncClient, file_name: str, *, was_shown: bool, **options: Any
) -> AsyncLease | None:
    """Take over the lease that a file records, and return it; return ``None`` if the file is gone.

    Args:
        client: The client.
        file_name: Name of the file in the folder of leases.
        was_shown: Whether the API has ever shown the pod.
        options: The parameters of ``pods.lease`` except the spec.

    Raises:
        ConfigError: The lease belongs to another API, key or team, its process may still run, or its file
            cannot be read.
    """
    file = _claim(file_name)
    if file is None:
        return None
    try:
        return _resume(client, file, was_shown=was_shown, **options)
    except BaseException:
        file.close()
        raise


def _claim(file_name: str) -> LeaseFile | None:
    from ..leasing.ledger import LeaseFile

    path = lease_folder() / file_name
    for _ in range(_CLAIM_ATTEMPTS):
        try:
            file = LeaseFile.claim(path)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ConfigError(
                f"The lease file {path} cannot be read ({reason}). Nothing was changed."
            ) from None
        if file is not None or not path.exists():
            return file
        # The files of a killed process are unlocked one after the other: first its run's, perhaps.
        time.sleep(_CLAIM_INTERVAL)
    raise ConfigError(
        f"The process of the lease file {path} may still run. Try again when it has ended.", transient=True
    )


def _resume(client: AsyncClient, file: LeaseFile, *, was_shown: bool, **options: Any) -> AsyncLease:
    from ..leasing.supervisor import resumed_spec

    lease = client.pods.lease(resumed_spec(file.record), **options)
    lease.supervisor.resume(file, was_shown=was_shown)
    return lease


def read_leases(run: Run) -> dict[str, LeaseRecord]:
    """Return the contents of those lease files of a run that exist and can be read, by file name.

    Raises:
        ConfigError: The folder of leases cannot be read.
    """
    from ..leasing.ledger import read_ledger

    folder = lease_folder()
    records = read_ledger(folder).records
    return {name: records[folder / name] for name in run.open_leases if folder / name in records}
