"""The wire shapes, pinned to the API's own documents, re-typed here; the emulator never reads these."""

from .caller import PODS
from .conftest import Serve


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
