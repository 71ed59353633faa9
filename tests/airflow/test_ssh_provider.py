"""The SSH provider's hook with the address from our XCom."""

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
import pytest

from primepods.emulator import Emulator
from tests.readme_blocks import find_blocks

from .conftest import ROOT, Run

pytest.importorskip("airflow.providers.ssh", reason="needs apache-airflow-providers-ssh")
# What that provider depends on.
asyncssh: Any = pytest.importorskip("asyncssh")

GUIDE = ROOT / "primepods" / "airflow" / "README.md"


@attrs.frozen
class Server:
    """An ssh server that stands for a pod.

    Attributes:
        port: Its port on loopback.
        key: The file with the key that it lets in.
        home: Where its commands run.
    """

    port: int
    key: Path
    home: Path


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    """A server in a thread of its own."""
    key, home = tmp_path / "id_ed25519", tmp_path / "home"
    home.mkdir()
    pair = asyncssh.generate_private_key("ssh-ed25519")
    pair.write_private_key(str(key))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    connections: list[Any] = []

    async def run_command(process: Any) -> None:
        connections.append(process.get_extra_info("connection"))
        command = await asyncio.create_subprocess_shell(process.command, cwd=home)
        process.exit(await command.wait())

    async def listen() -> Any:
        return await asyncssh.create_server(
            asyncssh.SSHServer,
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=asyncssh.import_authorized_keys(pair.export_public_key().decode()),
            process_factory=run_command,
        )

    async def close(listener: Any) -> None:
        listener.close()
        for connection in connections:
            connection.close()
            await connection.wait_closed()
        await listener.wait_closed()

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    yield Server(listener.get_port(), key, home)
    asyncio.run_coroutine_threadsafe(close(listener), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.timeout(500)
def test_the_guides_hook_runs_a_command(run: Run, server: Server, emulator: Emulator, tmp_path: Path) -> None:
    """The guide's task logs in where the wait's XCom says."""
    [block] = [b for b in find_blocks(GUIDE.read_text("utf-8")) if "SSHHook(" in b.text]
    text = block.text.replace("/srv/keys/id_ed25519", str(server.key)).replace("python train.py", "pwd > pwd")
    ssh = {"user": "root", "host": "127.0.0.1", "port": server.port}
    text += f"""
from airflow.sdk import DAG

with DAG("ssh_hook", schedule=None) as dag:
    train({{"ssh": {ssh!r}}})
"""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "guide.py").write_text(text)
    done = run(f"{tmp_path / 'dags' / 'guide.py'}:dag", emulator)
    assert done.states() == {"train": "success"}, done.log
    assert (server.home / "pwd").read_text().strip() == str(server.home)
