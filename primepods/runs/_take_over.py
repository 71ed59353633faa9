"""The lease of a run whose process has died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._utils.unique_names import UniqueName
from ..config import lease_folder
from ..errors import ConfigError

if TYPE_CHECKING:
    # Not imported otherwise: the command's help needs none of it.
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease


def take_over_lease(
    client: AsyncClient, file_name: str, *, was_shown: bool, **options: Any
) -> AsyncLease | None:
    """Return the lease of a file, continued in this process; ``None`` if there is no such file any more.

    Args:
        client: The client.
        file_name: The file, in the folder of leases.
        was_shown: Whether the API has ever shown the pod.
        options: The parameters of ``pods.lease``.

    Raises:
        ConfigError: The file is another account's, cannot be read, or is locked by a process.
    """
    from ..leasing.ledger import LeaseFile
    from ..specs import PodSpec

    path = lease_folder() / file_name
    try:
        file = LeaseFile.claim(path)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"The lease {path} cannot be read: {exc}. Nothing was changed.") from None
    if file is None:
        if not path.exists():
            return None
        raise ConfigError(f"A process has locked the lease {path}. Try again when it ends.")
    record = file.record
    spec = PodSpec(
        cloud_id="-",
        gpu_type="-",
        socket="-",
        gpu_count=1,
        provider="-",
        name=UniqueName(record.name),
        team_id=record.team_id,
    )
    lease = client.pods.lease(spec, **options)
    lease.supervisor.resume(file, was_shown=was_shown)
    return lease
