"""The vendor's own client, from the package index, unmodified, on the emulator.

It is installed into a virtual environment of its own, by the test: it shares no dependency with us, and
nothing of it is imported here.
"""

import json
import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primepods.emulator import Emulator

# Pinned: a new release must not break an old commit. Raise it deliberately.
CLIENT = "prime==0.18.0"

UNREACHABLE = (
    "Temporary failure in name resolution",
    "Failed to establish a new connection",
    "Network is unreachable",
    "Connection refused",
    "Read timed out",
    "ConnectTimeoutError",
    "ProxyError",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the official client is installed."""
    folder = tmp_path_factory.mktemp("official") / "venv"
    venv.create(folder, with_pip=True)
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached, so {CLIENT} cannot be installed")
    assert done.returncode == 0, done.stderr
    return interpreter


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """An emulator in which everything is ready, and three pods are gone."""
    with Emulator(pods=120, seed=3, boot_seconds=0, delete_seconds=0, history=5) as emulator:
        yield emulator


class Prime:
    """The official command, and any Python beside it, pointed at an emulator."""

    def __init__(self, python: Path, emulator: Emulator, home: Path) -> None:
        self._python = python
        self._environment = {
            "HOME": str(home),
            "USERPROFILE": str(home),
            "PATH": os.environ.get("PATH", ""),
            "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),
            "PRIME_API_KEY": emulator.api_key,
            "PRIME_API_BASE_URL": emulator.url,
            "PRIME_DISABLE_VERSION_CHECK": "1",
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "300",
        }

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed; returns what it printed."""
        return self.python("from prime_cli.main import run; run()", *arguments)

    def json(self, *arguments: str) -> Any:
        """Run a command with `--output json`."""
        return json.loads(self.run(*arguments, "--output", "json"))

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code in the client's environment."""
        done = subprocess.run(
            [str(self._python), "-c", code, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def prime(python: Path, emu: Emulator, tmp_path: Path) -> Prime:
    """The official command on the emulator."""
    return Prime(python, emu, tmp_path)


def test_pods_are_listed(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON, whose total is ours."""
    ids = list(emu.pods)
    listed = prime.json("pods", "list")
    assert listed["total_count"] == 120
    assert {pod["id"] for pod in listed["pods"]} <= set(ids)
    assert len(listed["pods"]) == 100
    table = prime.run("pods", "list")
    assert "Total: 120" in table
    assert ids[0] in table


def test_a_pod_s_status_is_shown(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON, of single machines and of clusters."""
    single = next(pod for pod in emu.pods.values() if pod.nodes == 1)
    cluster = next(pod for pod in emu.pods.values() if pod.nodes > 1)
    shown = prime.json("pods", "status", single.id)
    assert (shown["id"], shown["status"], shown["cost_per_hour"]) == (single.id, "ACTIVE", single.price_hr)
    assert " -p " in shown["ssh"]
    assert shown["port_mappings"][0]["used_by"] == "SSH"
    assert cluster.name in prime.run("pods", "status", cluster.id)


def test_the_history_is_shown(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON."""
    gone = next(iter(emu.pods))
    emu.delete_pod(gone)
    shown = prime.json("pods", "history")
    assert shown["total_count"] == 6
    assert gone in {row["id"] for row in shown["history"]}
    assert gone in prime.run("pods", "history")


def test_offers_are_listed(prime: Prime) -> None:
    """As a table and as JSON; the client reads pages until it has as many as there are said to be."""
    shown = prime.json("availability", "list", "--no-group-similar")
    assert shown["total_count"] > 100
    assert shown["gpu_resources"][0]["id"] in prime.run("availability", "list", "--no-group-similar")
    assert "H100_80GB" in prime.json("availability", "gpu-types")["gpu_types"]
    assert prime.json("availability", "disks")["total_count"] == 10


@pytest.mark.parametrize(("gpu_type", "image"), [("H100_80GB", "axolotl"), ("CPU_NODE", "ubuntu_22_cuda_12")])
def test_a_pod_is_created_and_terminated(prime: Prime, emu: Emulator, gpu_type: str, image: str) -> None:
    """Without questions, and without the slash that its request lacks: one pod more, one pod less."""
    offers = prime.json("availability", "list", "--no-group-similar", "--gpu-type", gpu_type)["gpu_resources"]
    offer = next(each for each in offers if each["disk_gb"].isdecimal())
    emu.requests.clear()
    printed = prime.run(
        "pods", "create", "--id", offer["id"], "--name", "by-prime", "--image", image,
        "--disk-size", "200", "--vcpus", "8", "--memory", "64", "--yes",
    )  # fmt: skip
    [pod] = [pod for pod in emu.pods.values() if pod.name == "by-prime"]
    assert pod.id in printed
    assert pod.gpu_name == gpu_type
    assert pod.price_hr == pytest.approx(offer["price_value"])
    assert len(emu.requests.where(method="POST", status=200)) == 1
    assert "Successfully terminated" in prime.run("pods", "terminate", pod.id, "--yes")
    assert pod.id not in emu.pods


def test_its_library_runs_unmodified(prime: Prime, emu: Emulator) -> None:
    """`PodsClient`, call by call; errors come as its own."""
    pod_id = next(iter(emu.pods))
    printed = prime.python(
        """
import json, sys
from prime_cli.api.pods import PodsClient
from prime_cli.core import APIClient, APIError, UnauthorizedError
client = PodsClient(APIClient())
page = client.list(offset=100, limit=50)
pod = client.get(sys.argv[1])
[status] = client.get_status([sys.argv[1]])
client.delete(sys.argv[1])
refusals = []
for call in (lambda: client.get(sys.argv[1]), lambda: PodsClient(APIClient(api_key="wrong")).list()):
    try:
        call()
    except APIError as error:
        refusals.append(str(error))
gone = client.history().data[0].id
print(json.dumps([page.total_count, len(page.data), pod.id, status.status, gone, refusals]))
""",
        pod_id,
    )
    total, rows, got, state, gone, refusals = json.loads(printed)
    assert (total, rows, got, state, gone) == (120, 20, pod_id, "ACTIVE", pod_id)
    assert "Pod not found" in refusals[0]
    assert "API key unauthorized" in refusals[1]


def test_it_sees_a_boot_that_fails(prime: Prime, emu: Emulator) -> None:
    """With the reason."""
    pod_id = emu.add_pod(failure="no such image", boot_seconds=0)
    shown = prime.json("pods", "status", pod_id)
    assert (shown["status"], shown["installation_error"]) == ("ERROR", "no such image")
