"""The lease of a run whose process has died."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._utils.unique_names import UniqueName
from ..config import lease_folder

if TYPE_CHECKING:
    # Not imported otherwise: the command's help needs none of it.
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease


def take_over_lease(client: AsyncClient, pod_id: str, **options: Any) -> AsyncLease | None:
    """Return the lease of a pod, continued in this process; ``None`` if this machine has none to take over.

    Args:
        client: The client.
        pod_id: The pod.
        options: The parameters of ``pods.lease``.
    """
    from ..leasing.ledger import LeaseFile, read_ledger
    from ..specs import PodSpec

    for path, record in read_ledger(lease_folder()).records.items():
        if record.pod_id != pod_id:
            continue
        with suppress(OSError, ValueError):
            file = LeaseFile.claim(path)
            if file is not None:
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
                lease.supervisor.resume(file)
                return lease
    return None
