"""The SSH provider's hook with the address from our XCom, on a real OpenSSH server."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from primepods.emulator import Emulator
from tests.readme_blocks import find_blocks
from tests.remote.sshd import SSHServer, reason_to_skip

from .conftest import ROOT, Run

pytest.importorskip("airflow.providers.ssh", reason="needs apache-airflow-providers-ssh")

GUIDE = ROOT / "primepods" / "airflow" / "README.md"


@pytest.fixture
def server(tmp_path: Path) -> Generator[SSHServer]:
    """Stands for a pod."""
    if (reason := reason_to_skip()) is not None:
        pytest.skip(reason)
    server = SSHServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(120)
def test_the_guides_hook_runs_a_command(
    run: Run, server: SSHServer, emulator: Emulator, tmp_path: Path
) -> None:
    """The guide's task logs in where the wait's XCom says."""
    [block] = [b for b in find_blocks(GUIDE.read_text("utf-8")) if "SSHHook(" in b.text]
    target = server.target
    ssh = {"user": target.user, "host": target.host, "port": target.port}
    text = block.text.replace("/srv/keys/id_ed25519", str(server.key)).replace(
        "python train.py", "echo done > trained"
    )
    text += f"""
from airflow.sdk import DAG

with DAG("ssh_hook", schedule=None) as dag:
    train({json.dumps({"ssh": ssh})})
"""
    (tmp_path / "guide.py").write_text(text)
    done = run(f"{tmp_path / 'guide.py'}:dag", emulator)
    assert done.states() == {"train": "success"}, done.log
    assert (server.home / "trained").read_text() == "done\n"
