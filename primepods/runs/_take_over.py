"""Take-over of a lease whose process has died, and the name of its pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import lease_folder
from ..errors import ConfigError

if TYPE_CHECKING:
    # Import only for types, so that `primepods --help` does not load these modules.
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease


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
    from ..leasing.ledger import LeaseFile
    from ..leasing.supervisor import resumed_spec

    path = lease_folder() / file_name
    try:
        file = LeaseFile.claim(path)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"The lease file {path} cannot be read ({reason}). Nothing was changed.") from None
    if file is None:
        if not path.exists():
            return None
        raise ConfigError(f"The process of the lease file {path} may still run. Try again when it has ended.")
    record = file.record
    try:
        lease = client.pods.lease(resumed_spec(record), **options)
        lease.supervisor.resume(file, was_shown=was_shown)
    except BaseException:
        file.close()
        raise
    return lease


def check_take_over(client: AsyncClient, file_name: str) -> None:
    """Check that :func:`take_over_lease` would not be refused; change nothing.

    Raises:
        ConfigError: As :func:`take_over_lease`.
    """
    lease = take_over_lease(client, file_name, was_shown=True)
    if lease is not None:
        lease.supervisor.rentals[0].file.close()


def leased_name(file_name: str) -> str | None:
    """Return the unique name of the pod of a lease file; ``None`` if the file is gone or unreadable.

    Raises:
        ConfigError: The folder of leases cannot be read.
    """
    from ..leasing.ledger import read_ledger

    folder = lease_folder()
    record = read_ledger(folder).records.get(folder / file_name)
    return None if record is None else record.name
