"""JSON shapes of pods, history rows, and pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from .._state.account import TEAM_ID, Account
from .._state.boot import FINISHED, Stage
from .._state.history import HistoryRow
from .._state.pods import PodRecord
from ..clock import timestamp
from ..local_ssh import disks_folder
from .http import Request, Response, encode, query_page, refuse

T = TypeVar("T")

USER_ID = "clemulator0000user"
WALLET_ID = "clemulator0001wallet"


def team_of(body: dict[str, Any], account: Account) -> str | None:
    """Return the team of an order, or raise a 403 if the user is no member of it."""
    team: dict[str, str] = body.get("team") or {}
    team_id = team.get("teamId")
    if team_id is not None and not account.has_team(team_id):
        # Imagined: no response is documented for this case.
        raise refuse(403, f"You are not a member of the team {team_id}. The emulator's team is {TEAM_ID}")
    return team_id


def page_of(request: Request, items: Sequence[T], row: Callable[[T], bytes], max_size: int) -> Response:
    """Return the requested page of ``items``, with at most ``max_size`` encoded rows."""
    offset, limit = query_page(request, max_size)
    head = b'{"total_count":%d,"offset":%d,"limit":%d,"data":[' % (len(items), offset, limit)
    rows = b",".join(row(item) for item in items[offset : offset + limit])
    return Response(200, head + rows + b'],"status":null}')


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
        **_state(record, stage),
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
        "resources": {
            "memory": record.memory,
            "disk": record.disk,
            "vcpus": record.vcpus,
            "shared_disk": None,
        },
        "attachedResources": [
            _disk(record.number, "/workspace", record.disk, is_shared=False),
            # A folder on this machine, so that commands on emulated pods can share files.
            *(
                _disk(
                    disk_id,
                    str(disks_folder() / disk_id),
                    record.disk_sizes.get(disk_id, 1000),
                    is_shared=True,
                )
                for disk_id in record.disk_ids
            ),
        ],
        "isSpot": True if record.spot else None,
        "autoRestart": False,
    }


def _status(record: PodRecord, stage: Stage) -> dict[str, object]:
    # The schema lacks three of these fields. The API's documentation shows costPerHr and primePortMapping,
    # and `prime` reads priceHr.
    return {
        "podId": record.id,
        "costPerHr": record.price_hr,
        "priceHr": record.price_hr,
        **_state(record, stage),
    }


def _state(record: PodRecord, stage: Stage) -> dict[str, object]:
    """Return the fields that list, get and status show. A cluster has lists of addresses."""
    ips = _addresses(record, stage) if stage.addressed else [None]
    ssh = [ip and f"{record.ssh_user}@{ip} -p {record.ssh_port}" for ip in ips]
    is_list = stage.addressed and record.nodes > 1
    return {
        "providerType": record.provider,
        "status": stage.status,
        "installationStatus": stage.installation,
        "installationFailure": stage.failure,
        "installationProgress": stage.progress,
        "primePortMapping": _ports(record) if stage.addressed else None,
        "sshConnection": ssh if is_list else ssh[0],
        "ip": ips if is_list else ips[0],
    }


def _addresses(record: PodRecord, stage: Stage) -> list[str | None]:
    """Return the addresses of all nodes; ``None`` for a node that has none yet."""
    addresses = record.addresses()
    if not record.staggered or stage.installation == FINISHED:
        return list(addresses)
    nodes_up = 1 + (record.nodes - 1) * (stage.progress or 0) // 100
    return [address if index < nodes_up else None for index, address in enumerate(addresses)]


def _ports(record: PodRecord) -> list[dict[str, object]]:
    ports = (
        ("22", record.ssh_port, "SSH", "SSH"),
        ("8888", 20000 + record.number % 10000, "JUPYTER_NOTEBOOK", "Jupyter"),
    )
    return [
        {
            "internal": internal,
            "external": str(external),
            "protocol": "TCP",
            "usedBy": used_by,
            "description": description,
        }
        for internal, external, used_by, description in ports
    ]


def _disk(disk_id: object, path: str, size: int, *, is_shared: bool) -> dict[str, object]:
    return {
        "resourceType": "DISK",
        "id": disk_id,
        "status": "ATTACHED",
        "isDetachable": is_shared,
        "mountPath": path,
        "resourcePath": None,
        "size": size,
        "isShared": is_shared,
    }
