"""Ports of pods: the emulator's and OpenSSH's."""

import asyncio
import http.server
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

import primepods
from primepods.emulator import Emulator
from primepods.remote import AsyncRemote, SSHOptions, forward_ports
from tests.support.eventually import eventually

from .conftest import LOCAL_SSH, Pod
from .sshd import SSHServer, children, free_port
from .test_commands import eventually_ended


@pytest.fixture
def web(tmp_path: Path) -> Iterator[int]:
    """The port of a web server on the pod, which is this machine."""
    (tmp_path / "page").write_text("from the pod", encoding="utf-8")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any, **kwargs: Any) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def read(url: str) -> str:
    """The page of the pod's web server."""
    with urlopen(f"{url}/page", timeout=20) as response:
        return str(response.read().decode())


def command_lines(pids: Iterable[int]) -> list[bytes]:
    """The arguments of processes."""
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]


def can_connect(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens."""
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


async def test_a_port_of_the_pod_is_one_of_this_machine(pod: Pod, web: int) -> None:
    """In the block, on loopback alone; several go over one connection; a port in use is told at once."""
    remote = pod.remote()
    async with forward_ports(remote, [(web, 0, "localhost"), (web, 0, "127.0.0.1")]) as forward:
        assert await asyncio.to_thread(read, forward.url) == "from the pod"
        assert await asyncio.to_thread(read, f"http://127.0.0.1:{forward.local_ports[1]}") == "from the pod"
        assert len(set(forward.local_ports)) == 2
        assert not can_connect(forward.local_port, "127.0.0.2")
        with pytest.raises(primepods.ConfigError, match=f"Port {forward.local_port} of this machine"):
            async with remote.forward(web, local_port=forward.local_port):
                pass
    assert not can_connect(forward.local_port)


async def test_a_host_may_be_an_ipv6_address(openssh: Pod) -> None:
    """In brackets, without which ssh would refuse to forward."""
    async with openssh.remote().forward(8888, host="::1") as forward:
        assert can_connect(forward.local_port)


async def test_a_forward_and_a_job_survive_a_cut(
    server: SSHServer, web: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At the pod's new address, with the same port; ssh ends with the block, though a connection is open."""
    moved = primepods.SSHTarget(server.target.user, "127.0.0.1", free_port())
    server.start(f"Port {moved.port}")
    addresses = [server.target]

    async def find_nodes() -> tuple[primepods.Node, ...]:
        return (primepods.Node(ip=None, ssh=addresses[-1]),)

    remote = AsyncRemote("pod1", find_nodes, SSHOptions(ssh_options=server.options))
    before = set(children(os.getpid()))
    job = await remote.start("echo begun; until [ -e go ]; do sleep 0.05; done; echo done; sleep 60")
    async with remote.forward(web) as forward, job.output() as output:
        assert await asyncio.to_thread(read, forward.url) == "from the pod"
        port = forward.local_port
        assert (await anext(output)).text == "begun"
        addresses.append(moved)
        server.cut()
        await eventually(lambda: caplog.records)
        (server.home / "go").touch()
        assert (await anext(output)).text == "done"
        await eventually(lambda: can_connect(port))
        assert forward.local_port == port
        assert await asyncio.to_thread(read, forward.url) == "from the pod"
        left_open = socket.create_connection(("127.0.0.1", port))
        own = set(children(os.getpid())) - before
        lines = await asyncio.to_thread(command_lines, own)
    left_open.close()
    assert [str(moved.port).encode() in line.split(b"\0") for line in lines] == [True, True]
    await eventually_ended(*own)
    await job.stop(grace=0)
    assert {record.getMessage() for record in caplog.records} == {
        f"Lost the connection to pod pod1. {state}; trying to connect again for 900 s."
        for state in ("Its ports cannot be reached", "Its command keeps running unless the pod restarts")
    }


async def test_a_forward_ends_with_its_pod(server: SSHServer, web: int) -> None:
    """A lost connection to a pod that the API does not know any more is not restored."""
    server.start()
    nodes = [(primepods.Node(ip=None, ssh=server.target),)]

    async def find_nodes() -> tuple[primepods.Node, ...]:
        if not nodes:
            raise primepods.NotFoundError(
                "gone", status_code=404, method="GET", path="/pods/pod1", message="gone"
            )
        return nodes.pop()

    remote = AsyncRemote("pod1", find_nodes, SSHOptions(ssh_options=server.options))
    async with remote.forward(web) as forward:
        server.cut()
        with anyio.fail_after(60), pytest.raises(primepods.NotFoundError, match="gone"):
            await forward.wait()


async def test_a_pod_that_forbids_forwarding(server: SSHServer, web: int) -> None:
    """It is told once, by `wait` or at the end of the block, with what to do; no ssh is left."""
    server.start("AllowTcpForwarding no")
    remote = Pod(server.target, server.home, {"ssh_options": server.options}).remote()
    before = children(os.getpid())

    async def fail(forward: primepods.AsyncForward) -> None:
        with pytest.raises(OSError, match=r"reset|closed|Remote end"):
            await asyncio.to_thread(read, forward.url)
        await eventually(lambda: not can_connect(forward.local_port))

    async def fail_and_raise() -> None:
        async with remote.forward(web) as forward:
            await fail(forward)
            raise KeyError

    with pytest.raises(primepods.ConnectionLostError, match=r"AllowTcpForwarding.* prohibited"):
        async with remote.forward(web) as forward:
            await fail(forward)
    async with remote.forward(web) as forward:
        await fail(forward)
        with pytest.raises(primepods.ConnectionLostError, match="forbids"):
            await forward.wait()
    with pytest.raises(KeyError) as told:
        await fail_and_raise()
    assert "forbids" in told.value.__notes__[0]
    assert set(children(os.getpid())) <= set(before)


async def test_no_ssh_is_left_by_a_process_that_was_killed(openssh: Pod, web: int) -> None:
    """Even while a connection through the port is open, which ssh itself would wait for."""
    program = (
        "import anyio, primepods, socket\n"
        "from primepods.remote import AsyncRemote, SSHOptions\n"
        f"remote = AsyncRemote('pod1', (primepods.Node(ip=None, ssh=primepods.{openssh.target!r}),),"
        f" SSHOptions(ssh_options={openssh.ssh['ssh_options']!r}))\n"
        "async def main():\n"
        f"    async with remote.forward({web}) as forward:\n"
        "        print(forward.local_port, flush=True)\n"
        "        await forward.wait()\n"
        "anyio.run(main)\n"
    )
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=-1)
    assert client.stdout is not None
    port = int(await client.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)):
        own = children(client.pid)
        assert own
        client.send_signal(signal.SIGKILL)
        await client.wait()
        await eventually_ended(*own)
    assert not can_connect(port)


async def test_cancellation_and_refusal(server: SSHServer, tmp_path: Path) -> None:
    """Cancelled while it logs in, it leaves no ssh; a pod that lets nobody in is told."""
    pod = Pod(server.target, server.home, {"ssh_options": server.options})
    before = children(os.getpid())
    with anyio.move_on_after(1.0) as scope:
        async with pod.remote().forward(80):
            pass
    assert scope.cancelled_caught
    assert set(children(os.getpid())) <= set(before)
    with pytest.raises(primepods.LoginError, match="Could not log in"):
        async with pod.remote(login_timeout=0.5).forward(80):
            pass
    wrongs: tuple[dict[str, Any], ...] = (
        {"port": 0},
        {"port": 1, "local_port": 70_000},
        {"port": 1, "host": "-oProxyCommand=x"},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"must be"):
            pod.remote().forward(**wrong)


def test_the_blocking_client_has_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, web: int) -> None:
    """The port is there in the block, and gone after it, or when the client is closed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Emulator(boot_seconds=0) as emulator:
        emulator.add_pod(id="pod1")
        with primepods.Client(api_key=emulator.api_key, base_url=emulator.url) as client:
            remote = client.pods.remote("pod1", ssh_command=LOCAL_SSH)
            with remote.forward(web) as forward:
                assert read(forward.url) == "from the pod"
            assert not can_connect(forward.local_port)
            forward = remote.forward(web).__enter__()
            assert can_connect(forward.local_port)
        assert not can_connect(forward.local_port)
