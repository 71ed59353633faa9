"""JSON shapes of pods, history rows, and pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from .._state.boot import FINISHED, Stage
from .._state.history import HistoryRow
from .._state.pods import PodRecord
from ..clock import timestamp
from ..local_ssh import disks_folder
from .http import Request, Response, encode, query_page

T = TypeVar("T")

USER_ID = "clemulator0000user"
WALLET_ID = "clemulator0001wallet"


def page(rows: Iterable[bytes], *, total: int, offset: int, limit: int) -> bytes:
    """Return a page of a list from encoded rows."""
    head = b'{"total_count":%d,"offset":%d,"limit":%d,"data":[' % (total, offset, limit)
    return head + b",".join(rows) + b'],"status":null}'


def page_of(request: Request, items: Sequence[T], row: Callable[[T], object], max_size: int) -> Response:
    """Return the requested page of ``items``, with at most ``max_size`` rows."""
    offset, limit = query_page(request, max_size)
    rows = [encode(row(item)) for item in items[offset : offset + limit]]
    return Response(200, page(rows, total=len(items), offset=offset, limit=limit))


def pod_row(record: PodRecord, epoch: datetime, now: float) -> bytes:
    """Return the JSON row of a pod, for list and get."""
    return record.cached_row("pod", now, lambda stage: encode(_pod(record, stage, epoch) | record.pod_fields))


def status_row(record: PodRecord, now: float) -> bytes:
    """Return the JSON row of a pod, for status."""
    return record.cached_row(
        "status", now, lambda stage: encode(_status(record, stage) | record.status_fields)
    )


def history_row(row: HistoryRow, epoch: datetime) -> bytes:
    return encode(
        {
            "id": row.id,
            "name": row.name,
            "providerType": row.provider,
            "provisionedBy": "Emulated User",
            "type": row.type,
            "createdAt": timestamp(epoch, row.created),
            "terminatedAt": None if row.terminated is None else timestamp(epoch, row.terminated),
            "gpuName": row.gpu_name,
            "gpuCount": row.gpu_count,
            "socket": row.socket,
            "priceHr": row.price_hr,
            "userId": USER_ID,
            "teamId": row.team_id,
            "totalBilledPrice": row.billed,
        }
    )


def _pod(record: PodRecord, stage: Stage, epoch: datetime) -> dict[str, object]:
    return {
        "id": record.id,
        "userId": USER_ID,
        "teamId": record.team_id,
        "walletId": WALLET_ID,
        "name": record.name,
        "type": "HOSTED",
        "providerType": record.provider,
        "status": stage.status,
        "installationStatus": stage.installation,
        "installationFailure": stage.failure,
        "installationProgress": stage.progress,
        "createdAt": timestamp(epoch, record.created),
        "updatedAt": timestamp(epoch, record.created + stage.since),
        "terminatedAt": None,
        "gpuName": record.gpu_name,
        "gpuCount": record.gpu_count,
        "socket": record.socket,
        "priceHr": record.price_hr,
        "stoppedPriceHr": None,
        "provisioningPriceHr": 0,
        "environmentType": record.image,
        "customTemplateId": None,
        "clusterId": f"cluster-{record.id[:12]}" if record.nodes > 1 else None,
        "primePortMapping": _ports(record) if stage.addressed else None,
        "sshConnection": _ssh(record, stage),
        "ip": _ip(record, stage),
        "resources": {
            "memory": record.memory,
            "disk": record.disk,
            "vcpus": record.vcpus,
            "shared_disk": None,
        },
        "attachedResources": [
            _disk(record),
            *(_shared_disk(record, disk_id) for disk_id in record.disk_ids),
        ],
        "isSpot": True if record.spot else None,
        "autoRestart": False,
    }


def _status(record: PodRecord, stage: Stage) -> dict[str, object]:
    # The schema lacks three of these fields. The API's documentation shows costPerHr and primePortMapping,
    # and `prime` reads priceHr.
    return {
        "podId": record.id,
        "providerType": record.provider,
        "status": stage.status,
        "sshConnection": _ssh(record, stage),
        "costPerHr": record.price_hr,
        "priceHr": record.price_hr,
        "primePortMapping": _ports(record) if stage.addressed else None,
        "ip": _ip(record, stage),
        "installationStatus": stage.installation,
        "installationFailure": stage.failure,
        "installationProgress": stage.progress,
    }


def _addresses(record: PodRecord, stage: Stage) -> list[str | None]:
    """Return the addresses of all nodes; ``None`` for a node that has none yet."""
    addresses = record.addresses()
    if not record.staggered or stage.installation == FINISHED:
        return list(addresses)
    nodes_up = 1 + (record.nodes - 1) * (stage.progress or 0) // 100
    return [address if index < nodes_up else None for index, address in enumerate(addresses)]


def _by_node(record: PodRecord, values: list[str | None]) -> str | list[str | None] | None:
    """Return the list of a cluster's values, or the only value of a pod with one node."""
    return values if record.nodes > 1 else values[0]


def _ip(record: PodRecord, stage: Stage) -> str | list[str | None] | None:
    return _by_node(record, _addresses(record, stage)) if stage.addressed else None


def _ssh(record: PodRecord, stage: Stage) -> str | list[str | None] | None:
    if not stage.addressed:
        return None
    lines = [
        None if ip is None else f"{record.ssh_user}@{ip} -p {record.ssh_port}"
        for ip in _addresses(record, stage)
    ]
    return _by_node(record, lines)


def _ports(record: PodRecord) -> list[dict[str, object]]:
    return [
        {
            "internal": "22",
            "external": str(record.ssh_port),
            "protocol": "TCP",
            "usedBy": "SSH",
            "description": "SSH",
        },
        {
            "internal": "8888",
            "external": str(20000 + record.number % 10000),
            "protocol": "TCP",
            "usedBy": "JUPYTER_NOTEBOOK",
            "description": "Jupyter",
        },
    ]


def _disk(record: PodRecord) -> dict[str, object]:
    return {
        "resourceType": "DISK",
        "id": record.number,
        "status": "ATTACHED",
        "isDetachable": False,
        "mountPath": "/workspace",
        "resourcePath": None,
        "size": record.disk,
        "isShared": False,
    }


def _shared_disk(record: PodRecord, disk_id: str) -> dict[str, object]:
    return {
        "resourceType": "DISK",
        "id": disk_id,
        "status": "ATTACHED",
        "isDetachable": True,
        # A folder on this machine, so that commands on emulated pods can share files.
        "mountPath": str(disks_folder() / disk_id),
        "resourcePath": None,
        "size": record.disk_sizes.get(disk_id, 1000),
        "isShared": True,
    }
