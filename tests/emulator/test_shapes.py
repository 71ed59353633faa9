"""The wire shapes, pinned to the API's own documents, re-typed here; the emulator never reads these."""

from typing import Any

from .caller import HISTORY, PODS, STATUS, Caller
from .conftest import Serve

POD: dict[str, Any] = {
    "id": "b8b3f3c0d2a54e0fb5a6e4f0a0a5c111",
    "userId": "clvb0itli0000oxevorvgrpfn",
    "teamId": None,
    "walletId": "clvb0itli0001oxev",
    "name": "h100-8",
    "type": "HOSTED",
    "providerType": "primecompute",
    "status": "ACTIVE",
    "installationStatus": "FINISHED",
    "installationFailure": None,
    "installationProgress": 100,
    "createdAt": "2026-11-07T05:31:56Z",
    "updatedAt": "2026-11-07T05:41:56.123000Z",
    "terminatedAt": None,
    "gpuName": "H100_80GB",
    "gpuCount": 8,
    "socket": "SXM5",
    "priceHr": 15.12,
    "stoppedPriceHr": 0.005,
    "provisioningPriceHr": 0,
    "environmentType": "ubuntu_22_cuda_12",
    "customTemplateId": None,
    "clusterId": None,
    "primePortMapping": [
        {"internal": "22", "external": "22", "protocol": "TCP", "usedBy": "SSH", "description": ""}
    ],
    "sshConnection": "root@135.23.125.123 -p 22",
    "ip": "135.23.125.123",
    "resources": {"memory": "128", "disk": "1000", "vcpus": "32", "shared_disk": None},
    "attachedResources": [
        {
            "resourceType": "DISK",
            "id": 17,
            "status": "ATTACHED",
            "isDetachable": True,
            "mountPath": "/workspace",
            "resourcePath": None,
            "size": "100",
            "isShared": False,
        }
    ],
    "isSpot": None,
    "autoRestart": False,
}

STATUS_ROW: dict[str, Any] = {
    "podId": "my_first_pod_id",
    "providerType": "primeconpute",
    "status": "ACTIVE",
    "sshConnection": "root@135.23.125.123 -p 22",
    "costPerHr": 3.52,
    "primePortMapping": [
        {"internal": "22", "external": "22", "protocol": "TCP", "usedBy": "SSH", "description": ""}
    ],
    "ip": "135.23.125.123",
    "installationFailure": None,
    "installationProgress": 100,
}

HISTORY_ROW: dict[str, Any] = {
    "id": "9f3d2f7a6c1e4b0c8d2f00000000aaaa",
    "name": "old-run",
    "providerType": "hyperstack",
    "provisionedBy": "A User",
    "type": "Instance",
    "createdAt": "2026-10-01T10:00:00Z",
    "terminatedAt": "2026-10-01T12:30:00Z",
    "gpuName": "H100_80GB",
    "gpuCount": 1,
    "socket": "PCIe",
    "priceHr": 1.9,
    "userId": "clvb0itli0000oxevorvgrpfn",
    "teamId": None,
    "totalBilledPrice": 4.75,
}

# The samples hold numbers as text where the schema wants integers; the emulator keeps to the schema.
AS_INTEGER = {"memory", "disk", "vcpus", "size"}


def shape(value: Any, key: str = "") -> Any:
    """The keys and the kinds of a JSON value: what must be the same on both sides."""
    if isinstance(value, dict):
        return {name: shape(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    if key in AS_INTEGER or (isinstance(value, int | float) and not isinstance(value, bool)):
        return "number"
    return type(value).__name__


def test_a_ready_pod_has_the_shape_of_the_documented_one(serve: Serve) -> None:
    """Every key of the sample, no other, and values of the same kinds."""
    call = serve()
    call.emulator.add_pod("h100-8", boot_seconds=0)
    [row] = call.get(PODS)["data"]
    assert shape({**row, "stoppedPriceHr": 0.005}) == shape(POD)


def test_get_and_list_show_the_same_pod(call: Caller) -> None:
    """One encoding for both."""
    first = call.get(PODS)["data"][0]
    assert call.get(PODS + first["id"]) == first


def test_a_status_row_has_what_all_clients_read(serve: Serve) -> None:
    """The page's row, plus the schema's installationStatus and the official client's priceHr."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=0, price_hr=3.52)
    answer = call.get(STATUS, ("pod_ids", pod_id))
    assert answer.keys() == {"data", "status"}
    [row] = answer["data"]
    assert shape(row) == shape({**STATUS_ROW, "installationStatus": "FINISHED", "priceHr": 3.52})
    assert (row["costPerHr"], row["priceHr"]) == (3.52, 3.52)


def test_a_page_has_the_documented_envelope(call: Caller) -> None:
    """Total, offset and limit as asked, rows, and the status that is always there and always null."""
    page = call.get(PODS, ("offset", "2"), ("limit", "3"))
    assert {key: value for key, value in page.items() if key != "data"} == {
        "total_count": 10,
        "offset": 2,
        "limit": 3,
        "status": None,
    }
    assert len(page["data"]) == 3


def test_a_history_row_has_the_shape_of_the_documented_one(serve: Serve) -> None:
    """Every key of the sample, no other."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=0, nodes=1)
    call.emulator.delete_pod(pod_id)
    page = call.get(HISTORY)
    assert page.keys() == {"total_count", "offset", "limit", "data", "status"}
    assert shape(page["data"][0]) == shape(HISTORY_ROW)


def test_a_pod_with_nodes_lists_its_addresses(serve: Serve) -> None:
    """Address and ssh connection are lists of the same length, one entry a node."""
    call = serve()
    pod_id = call.emulator.add_pod(nodes=4, boot_seconds=0, provider="dc_roan")
    [row] = call.status(pod_id)
    assert len(set(row["ip"])) == 4
    assert row["sshConnection"] == [f"root@{ip} -p 2222" for ip in row["ip"]]


def test_ssh_has_no_prefix_and_always_a_port(serve: Serve) -> None:
    """The official client splits it at " -p "."""
    call = serve(pods=50, cluster_rate=0, boot_seconds=0)
    for pod in call.get(PODS)["data"]:
        user_host, port = pod["sshConnection"].split(" -p ")
        assert user_host.endswith("@" + pod["ip"])
        assert port.isdecimal()


def test_fields_can_be_laid_over_the_answers(serve: Serve) -> None:
    """Odd rows, as odd as a test needs them, in the pod and in its status."""
    call = serve()
    pod_id = call.emulator.add_pod(
        boot_seconds=0, pod_fields={"jupyterPassword": "secret"}, status_fields={"ip": None, "new": {"x": 1}}
    )
    [row] = call.status(pod_id)
    pod = call.get(PODS + pod_id)
    assert (row["ip"], row["new"]) == (None, {"x": 1})
    assert pod["ip"] is not None
    assert pod["jupyterPassword"] == "secret"
