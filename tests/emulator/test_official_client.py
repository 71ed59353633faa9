"""The vendor's own client, from the package index, unmodified, on the emulator.

It is installed into a virtual environment of its own, by the test: it shares no dependency with us, and
nothing of it is imported here.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
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


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the official client is installed."""
    folder = tmp_path_factory.mktemp("official") / "venv"
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT]
    if uv := os.environ.get("UV") or shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=60)
        command = [uv, "pip", "install", "--quiet", "--python", str(interpreter), CLIENT]
    else:
        venv.create(folder, with_pip=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached, so {CLIENT} cannot be installed")
    assert done.returncode == 0, done.stderr
    return interpreter


COMMANDS = """
import contextlib, io, json, sys
from prime_cli.main import run
for line in sys.stdin:
    sys.argv, code, printed = ["prime", *json.loads(line)], 0, io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            run()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, printed.getvalue()]), flush=True)
"""
"""Runs commands one after another in one process: each start takes a second."""


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
        self._commands = subprocess.Popen(
            [str(python), "-c", COMMANDS],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed; returns what it printed."""
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        self._commands.stdin.write(f"{json.dumps(arguments)}\n")
        self._commands.stdin.flush()
        code, printed = json.loads(self._commands.stdout.readline())
        assert code == 0, printed
        return str(printed)

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

    def end(self) -> None:
        """End the process of the commands."""
        with self._commands:
            self._commands.kill()


def test_it_runs_unmodified(python: Path, tmp_path: Path) -> None:
    """Its commands and its library, on an account with pods that are ready, and others that are gone."""
    with Emulator(pods=120, seed=3, boot_seconds=0, delete_seconds=0, history=5) as emulator:
        prime = Prime(python, emulator, tmp_path)
        try:
            pods_are_listed(prime, emulator)
            a_status_is_shown(prime, emulator)
            the_history_is_shown(prime, emulator)
            offers_are_listed(prime)
            a_pod_is_created_and_terminated(prime, emulator, "H100_80GB", "axolotl")
            a_pod_is_created_and_terminated(prime, emulator, "CPU_NODE", "ubuntu_22_cuda_12")
            a_boot_that_fails_is_shown(prime, emulator)
            the_library_runs(prime, emulator)
        finally:
            prime.end()


def pods_are_listed(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON, whose total is ours."""
    ids = list(emu.pods)
    listed = prime.json("pods", "list")
    assert listed["total_count"] == 120
    assert {pod["id"] for pod in listed["pods"]} <= set(ids)
    assert len(listed["pods"]) == 100
    table = prime.run("pods", "list")
    assert "Total: 120" in table
    assert ids[0] in table


def a_status_is_shown(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON, of single machines and of clusters."""
    single = next(pod for pod in emu.pods.values() if pod.nodes == 1)
    cluster = next(pod for pod in emu.pods.values() if pod.nodes > 1)
    shown = prime.json("pods", "status", single.id)
    assert (shown["id"], shown["status"], shown["cost_per_hour"]) == (single.id, "ACTIVE", single.price_hr)
    assert " -p " in shown["ssh"]
    assert shown["port_mappings"][0]["used_by"] == "SSH"
    assert cluster.name in prime.run("pods", "status", cluster.id)


def the_history_is_shown(prime: Prime, emu: Emulator) -> None:
    """As a table and as JSON."""
    gone = next(iter(emu.pods))
    emu.delete_pod(gone)
    shown = prime.json("pods", "history")
    assert shown["total_count"] == 6
    assert gone in {row["id"] for row in shown["history"]}
    assert gone in prime.run("pods", "history")


def offers_are_listed(prime: Prime) -> None:
    """As a table and as JSON; the client reads pages until it has as many as there are said to be."""
    shown = prime.json("availability", "list", "--no-group-similar")
    assert shown["total_count"] > 100
    assert shown["gpu_resources"][0]["id"] in prime.run("availability", "list", "--no-group-similar")
    assert "H100_80GB" in prime.json("availability", "gpu-types")["gpu_types"]
    assert prime.json("availability", "disks")["total_count"] == 10


def a_pod_is_created_and_terminated(prime: Prime, emu: Emulator, gpu_type: str, image: str) -> None:
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


def the_library_runs(prime: Prime, emu: Emulator) -> None:
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


def a_boot_that_fails_is_shown(prime: Prime, emu: Emulator) -> None:
    """With the reason."""
    pod_id = emu.add_pod(failure="no such image", boot_seconds=0)
    shown = prime.json("pods", "status", pod_id)
    assert (shown["status"], shown["installation_error"]) == ("ERROR", "no such image")
