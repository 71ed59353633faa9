"""Pods to work on: emulated ones, a real OpenSSH server, and one whose user has nothing but BusyBox."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from primepods import Node, SSHTarget
from primepods.remote import AsyncRemote, SSHOptions

from .sshd import SSHServer, reason_to_skip

LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that start OpenSSH's server."""
    names = {"cluster", "server", "openssh", "busybox"}
    kind = item.callspec.params.get("pod") if hasattr(item, "callspec") else None
    if names & {kind, *getattr(item, "fixturenames", ())}:
        item.add_marker(pytest.mark.slow)


@attrs.frozen
class Pod:
    """A pod to log in to, and where its files are on this machine."""

    target: SSHTarget
    home: Path
    ssh: dict[str, Any]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The pod's only node."""
        return (Node(ip=None, ssh=self.target),)

    def remote(self, **options: Any) -> AsyncRemote:
        """The pod as ``pods.remote`` gives it."""
        defaults: dict[str, Any] = {"login_timeout": 100.0, **self.ssh}
        return AsyncRemote("pod1", self.nodes, SSHOptions(**defaults | options))


def busybox(folder: Path) -> Path:
    """A folder with BusyBox's programs and no others."""
    program = shutil.which("busybox")
    if program is None:
        pytest.skip("BusyBox is not installed here: apt-get install busybox")
    folder.mkdir()
    subprocess.run([program, "--install", "-s", folder], check=True, timeout=30)
    return folder


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """A file or folder that even the superuser cannot replace, in a block."""
    chattr = shutil.which("chattr") or "chattr"
    try:
        subprocess.run([chattr, "+i", path], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only the superuser can make files immutable, on some disks")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", path], check=True, timeout=30)


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Known hosts are the test's own, in a folder with a blank in its name."""
    folder = tmp_path / "the state"
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    """An OpenSSH server that is not started yet."""
    yield from _server(tmp_path, None)


def _server(folder: Path, tools: Path | None) -> Iterator[SSHServer]:
    if (reason := reason_to_skip()) is not None:
        pytest.skip(reason)
    (folder / "sshd").mkdir()
    made = SSHServer(folder / "sshd", tools)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def openssh(server: SSHServer) -> Pod:
    """A pod whose OpenSSH server runs."""
    server.start()
    return Pod(server.target, server.home, {"ssh_options": server.options})


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pod:
    """A pod that is emulated."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    host = "198.18.0.9"
    [user] = {path.name for path in [_local_home(tmp_path / "tmp")]}
    return Pod(SSHTarget("root", host, 22), tmp_path / "tmp" / user / host, {"ssh_command": LOCAL_SSH})


def _local_home(folder: Path) -> Path:
    command = [*shlex.split(LOCAL_SSH), "root@198.18.0.9", "true"]
    subprocess.run(command, check=True, timeout=30)
    [made] = folder.iterdir()
    return made


@pytest.fixture(params=["emulated", "openssh", pytest.param("busybox", marks=pytest.mark.slow)])
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pod]:
    """A pod of each kind."""
    if request.param != "busybox":
        yield request.getfixturevalue(request.param)
        return
    for made in _server(tmp_path, busybox(tmp_path / "tools")):
        made.start()
        yield Pod(made.target, made.home, {"ssh_options": made.options})


@pytest.fixture
def remote(pod: Pod) -> AsyncRemote:
    """A pod of each kind, as ``pods.remote`` gives it."""
    return pod.remote()


Eventually = Callable[[Callable[[], bool]], None]
