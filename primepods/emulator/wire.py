"""The wire shapes: records in, JSON as the API spells it out.

Written from the API's documents, not from a client.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from attrs import frozen

from primepods.emulator.pods import USER_ID, WALLET_ID, PodRecord
from primepods.emulator.timeline import Stage


@frozen(kw_only=True)
class HistoryRow:
    """Something that was paid for and is no more. Times are seconds on the emulator's clock."""

    id: str
    name: str
    provider: str
    type: str
    created: float
    terminated: float | None
    gpu_name: str
    gpu_count: int
    socket: str | None
    price_hr: float
    team_id: str | None
    billed: float


def encode(value: object) -> bytes:
    """Compact JSON; never NaN, which is none."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def timestamp(epoch: datetime, seconds: float) -> str:
    """An RFC 3339 time in UTC, with a fraction only where there is one."""
    return (epoch + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def page(rows: Iterable[bytes], *, total: int, offset: int, limit: int) -> bytes:
    """A page of the pod and history lists around rows that are encoded already."""
    head = b'{"total_count":%d,"offset":%d,"limit":%d,"data":[' % (total, offset, limit)
    return head + b",".join(rows) + b'],"status":null}'


def status_answer(rows: Iterable[bytes]) -> bytes:
    """The answer to a status request around rows that are encoded already."""
    return b'{"data":[' + b",".join(rows) + b'],"status":null}'


def pod_row(record: PodRecord, epoch: datetime, now: float) -> bytes:
    """A pod as list and get show it."""
    stage = record.stage(now)
    done = record.rendered.get("pod")
    if done is None or done[0] != stage:
        done = stage, encode(_pod(record, stage, epoch) | record.pod_fields)
        record.rendered["pod"] = done
    return done[1]


def status_row(record: PodRecord, now: float) -> bytes:
    """A pod as the status endpoint shows it."""
    stage = record.stage(now)
    done = record.rendered.get("status")
    if done is None or done[0] != stage:
        done = stage, encode(_status(record, stage) | record.status_fields)
        record.rendered["status"] = done
    return done[1]


def history_row(row: HistoryRow, epoch: datetime) -> bytes:
    """A row of the history."""
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
        "sshConnection": _ssh(record) if stage.addressed else None,
        "ip": _ip(record) if stage.addressed else None,
        "resources": {
            "memory": record.memory,
            "disk": record.disk,
            "vcpus": record.vcpus,
            "shared_disk": None,
        },
        "attachedResources": [_disk(record)],
        "isSpot": None,
        "autoRestart": False,
    }


def _status(record: PodRecord, stage: Stage) -> dict[str, object]:
    # The page shows costPerHr and primePortMapping, the official client reads priceHr, the schema has none of
    # the three: all are sent, so that every client finds what it looks for.
    return {
        "podId": record.id,
        "providerType": record.provider,
        "status": stage.status,
        "sshConnection": _ssh(record) if stage.addressed else None,
        "costPerHr": record.price_hr,
        "priceHr": record.price_hr,
        "primePortMapping": _ports(record) if stage.addressed else None,
        "ip": _ip(record) if stage.addressed else None,
        "installationStatus": stage.installation,
        "installationFailure": stage.failure,
        "installationProgress": stage.progress,
    }


def _ip(record: PodRecord) -> str | list[str]:
    addresses = record.addresses()
    return addresses if record.nodes > 1 else addresses[0]


def _ssh(record: PodRecord) -> str | list[str]:
    lines = [f"{record.ssh_user}@{ip} -p {record.ssh_port}" for ip in record.addresses()]
    return lines if record.nodes > 1 else lines[0]


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
