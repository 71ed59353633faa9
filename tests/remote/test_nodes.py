"""Pods with several nodes: two real OpenSSH servers, and emulated clusters."""

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import primepods
from primepods.emulator import Emulator
from primepods.remote import AsyncRemote, SSHOptions
from tests.support.eventually import eventually

from .conftest import LOCAL_SSH
from .sshd import SSHServer, reason_to_skip
from .test_commands import eventually_ended, read_pid


@attrs.frozen
class Cluster:
    """Two nodes, each with an OpenSSH server of its own."""

    servers: tuple[SSHServer, SSHServer]

    def remote(self, node: int | None = None) -> AsyncRemote:
        """The cluster, or one of its nodes, as ``pods.remote`` gives it."""
        words = [word for server in self.servers for word in ("-i", str(server.key))]
        options = SSHOptions(login_timeout=100.0, ssh_options=[*self.servers[0].options[:-2], *words])
        nodes = tuple(primepods.Node(ip=None, ssh=server.target) for server in self.servers)
        return AsyncRemote("pod1", nodes, options, node)

    async def pids(self) -> list[int]:
        """The process of the command on each node."""
        return [await read_pid(server.home / "pid") for server in self.servers]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose servers run."""
    if (reason := reason_to_skip()) is not None:
        pytest.skip(reason)
    servers: list[SSHServer] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        servers.append(SSHServer(tmp_path / name))
        servers[-1].start()
    yield Cluster((servers[0], servers[1]))
    for server in servers:
        server.stop()


VARIABLES = "$NODE_RANK/$NNODES $MASTER_ADDR $PET_NODE_RANK/$PET_NNODES $PET_MASTER_ADDR"


async def test_each_node_knows_its_rank_and_the_master(cluster: Cluster, state: Path) -> None:
    """The port is the same and free; lines say their node; each node has a host key of its own."""
    lines: list[primepods.OutputLine] = []
    results = await cluster.remote().run_all(
        f'echo "{VARIABLES} $WORD" >&2; echo $MASTER_PORT $PET_MASTER_PORT; pwd',
        env={"WORD": "given"},
        on_line=lines.append,
    )
    assert [result.exit_code for result in results] == [0, 0]
    for rank, (server, result) in enumerate(zip(cluster.servers, results, strict=True)):
        assert result.stderr == f"{rank}/2 127.0.0.1 {rank}/2 127.0.0.1 given\n"
        port, pet_port, home = result.stdout.split(maxsplit=2)
        assert port == pet_port
        assert home.strip() == str(server.home)
        own = [line.text for line in lines if line.node == rank and line.stream == "stdout"]
        assert own == result.stdout.splitlines()
    assert len({result.stdout.split()[0] for result in results}) == 1
    known = [line.split()[0] for line in (state / "known_hosts").read_text(encoding="ascii").splitlines()]
    assert sorted(known) == ["pod1", "pod1-1"]
    assert (await cluster.remote(1).run("pwd")).stdout == f"{cluster.servers[1].home}\n"


WORK = "echo $$ >pid; echo begun; sleep 300"


@pytest.mark.slow
async def test_the_first_failure_ends_all_nodes(cluster: Cluster) -> None:
    """The error names the failed node; the command on the other ends, though it ignores SIGTERM."""
    first = shlex.quote(str(cluster.servers[0].home / "pid"))
    fails = f"until [ -s {first} ]; do sleep 0.05; done; echo $$ >pid; exit 7"
    line = f"trap '' TERM; if [ $NODE_RANK = 1 ]; then {fails}; fi; {WORK}"
    with pytest.raises(primepods.CommandError, match=r"pod1 \(node 1\) ended with exit code 7") as told:
        await cluster.remote().run_all(line)
    pids = await cluster.pids()
    await eventually_ended(*pids)
    assert told.value.exit_code == 7


@pytest.mark.parametrize("cause", ["cancellation", "timeout", "lost connection"])
async def test_what_ends_one_node_ends_all(cluster: Cluster, cause: str) -> None:
    """Nothing runs on, on any node."""
    begun = set[int]()
    timeout = 1.5 if cause == "timeout" else None
    working = cluster.remote().run_all(WORK, timeout=timeout, on_line=lambda line: begun.add(line.node))
    if cause == "timeout":
        with pytest.raises(primepods.CommandTimeoutError, match=r"\(node \d\) ran longer than 1.5 s"):
            await working
    else:
        task = asyncio.create_task(working)
        await eventually(lambda: begun == {0, 1})
        if cause == "cancellation":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            cluster.servers[1].cut()
            with pytest.raises(primepods.ConnectionLostError, match=r"pod1 \(node 1\) was lost"):
                await task
    assert begun
    await eventually_ended(*[await read_pid(cluster.servers[node].home / "pid") for node in begun])


@pytest.mark.slow
async def test_a_node_that_floods_leaves_the_other_its_turn(cluster: Cluster) -> None:
    """A line of the quiet node arrives while the other one writes without end."""
    line = "if [ $NODE_RANK = 0 ]; then yes; else sleep 0.5; echo here; sleep 60; fi"
    heard = anyio.Event()
    others = 0

    def listen(line: primepods.OutputLine) -> None:
        nonlocal others
        if line.node == 1:
            heard.set()
        others += line.node == 0

    with anyio.fail_after(60):
        task = asyncio.create_task(cluster.remote().run_all(line, on_line=listen))
        await heard.wait()
    task.cancel()
    await asyncio.wait({task})
    assert others


async def test_emulated_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each node has a home of its own; a number that there is not is told; both clients agree."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with Emulator(boot_seconds=0) as emulator:
        emulator.add_pod(id="big", nodes=4, gpu_count=32)
        emulator.add_pod(id="booting", nodes=2, gpu_count=16, boot_seconds=1_000)
        async with primepods.AsyncClient(api_key=emulator.api_key, base_url=emulator.url) as client:
            remote = client.pods.remote("big", node=3, ssh_command=LOCAL_SSH)
            results = await remote.run_all("echo $NODE_RANK $MASTER_ADDR >>ran; cat ran")
            assert [result.stdout for result in results] == [f"{rank} 127.0.0.1\n" for rank in range(4)]
            assert (await remote.run("cat ran")).stdout == "3 127.0.0.1\n"
            with pytest.raises(primepods.LoginError, match="has no node 4: it has 4, numbered from 0"):
                await client.pods.remote("big", node=4, ssh_command=LOCAL_SSH).run("true")
            with pytest.raises(primepods.LoginError, match="no address"):
                await client.pods.remote("booting", ssh_command=LOCAL_SSH).run_all("true")
            with pytest.raises(ValueError, match="node"):
                client.pods.remote("big", node=-1)
            # Before anything is asked of the API or the pod.
            unknown = client.pods.remote("unknown")
            wrongs: tuple[dict[str, Any], ...] = ({"cwd": ""}, {"timeout": -1}, {"on_line": 7})
            for wrong in wrongs:
                with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
                    await unknown.run_all("true", **wrong)
