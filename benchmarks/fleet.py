"""Synthetic pods in the API's wire shapes, encoded once, so that the server only copies bytes.

Written from the API's documents, without code of the client or the emulator; all fields that the vendor's
client requires are present. As in a real fleet most pods are ready, a few boot, some have several nodes; ids
and addresses differ between pods, while images, prices and resources repeat. Two thirds are machines with
their own address, whose only port is 22, as in the documents' examples; the others are containers with
separate ports for ssh and Jupyter.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

_GPUS = (
    ("H100_80GB", "SXM5", 2.1),
    ("H200_141GB", "SXM5", 3.2),
    ("A100_80GB", "PCIe", 1.2),
    ("RTX4090_24GB", "PCIe", 0.4),
)
_PROVIDERS = (("runpod", "root", None), ("primecompute", "root", 22), ("hyperstack", "ubuntu", 22))
_IMAGES = ("ubuntu_22_cuda_12", "cuda_12_4_pytorch_2_5", "vllm_llama_70b")


def pod_id(number: int) -> str:
    """Return the id of pod ``number``: 32 hexadecimal digits, like the API's ids."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def pod_ids(start: int, count: int) -> list[str]:
    """Return the ids of ``count`` pods, from number ``start``."""
    return [pod_id(number) for number in range(start, start + count)]


class Fleet:
    """Encoded rows of many pods.

    Args:
        count: Number of pods.
    """

    def __init__(self, count: int) -> None:
        self.listed: list[bytes] = []
        """Rows of the list, in order."""
        self.pods: dict[bytes, bytes] = {}
        """Rows of the list, by id."""
        self.statuses: dict[bytes, bytes] = {}
        """Rows of the status endpoint, by id."""
        for number in range(count):
            pod, status = rows(number)
            key, row = pod_id(number).encode(), _encode(pod)
            self.listed.append(row)
            self.pods[key] = row
            self.statuses[key] = _encode(status)


def rows(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the list row and the status row of pod ``number``."""
    rng = Random(number)
    gpu, socket, price = rng.choice(_GPUS)
    provider, user, port = rng.choice(_PROVIDERS)
    ports = _ports(port, rng)
    port = port or int(ports[0]["external"])
    nodes = 4 if number % 20 == 7 else 1
    count = 8 if nodes > 1 else rng.choice((1, 2, 4, 8))
    progress = 100 if number % 16 else rng.choice((None, 40))
    ips = [f"135.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(nodes)]
    ssh = [f"{user}@{ip} -p {port}" for ip in ips]
    ready = progress == 100
    state: dict[str, Any] = {
        "status": "ACTIVE" if progress else "PROVISIONING",
        "installationStatus": "FINISHED" if ready else "PENDING",
        "installationFailure": None,
        "installationProgress": progress,
        "primePortMapping": ports if progress else None,
        "sshConnection": (ssh if nodes > 1 else ssh[0]) if progress else None,
        "ip": (ips if nodes > 1 else ips[0]) if progress else None,
        "providerType": provider,
        "priceHr": round(price * count, 2),
    }
    # The page shows costPerHr, the vendor's client reads priceHr.
    status = {"podId": pod_id(number), "costPerHr": state["priceHr"], **state}
    disk = rng.choice((100, 500, 1000))
    pod = {
        "id": pod_id(number),
        "userId": "clvb0itli0000oxevorvgrpfn",
        "teamId": None,
        "walletId": "clvb0itli0001oxevorvgrpfn",
        "name": f"{gpu.split('_')[0].lower()}-{count}-{number:06d}",
        "type": "HOSTED",
        "createdAt": f"2026-11-{number % 28 + 1:02d}T05:{number % 60:02d}:56Z",
        "updatedAt": f"2026-11-{number % 28 + 1:02d}T06:{number % 60:02d}:56.{rng.randrange(1000):03d}000Z",
        "terminatedAt": None,
        "gpuName": gpu,
        "gpuCount": count,
        "socket": socket,
        "stoppedPriceHr": 0.005,
        "provisioningPriceHr": 0,
        "environmentType": rng.choice(_IMAGES),
        "customTemplateId": None,
        "clusterId": f"cluster-{number}" if nodes > 1 else None,
        "resources": {"memory": 64 * count, "disk": disk, "vcpus": 8 * count, "shared_disk": None},
        "attachedResources": [_disk(number, disk)],
        "isSpot": None,
        "autoRestart": False,
        **state,
    }
    return pod, status


def _ports(ssh: int | None, rng: Random) -> list[dict[str, Any]]:
    uses = [("22", str(ssh or rng.randrange(10_000, 60_000)), "SSH")]
    if ssh is None:
        uses.append(("8888", str(rng.randrange(10_000, 60_000)), "JUPYTER_NOTEBOOK"))
    return [
        {"internal": internal, "external": external, "protocol": "TCP", "usedBy": use, "description": ""}
        for internal, external, use in uses
    ]


def _disk(number: int, size: int) -> dict[str, Any]:
    return {
        "resourceType": "DISK",
        "id": number,
        "status": "ATTACHED",
        "isDetachable": False,
        "mountPath": "/workspace",
        "resourcePath": None,
        "size": size,
        "isShared": False,
    }


def _encode(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()
