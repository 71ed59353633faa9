"""What the guide has a newcomer type."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("prefect", reason="needs the extra `prefect`")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_demo_runs_from_nothing() -> None:
    """Its flow run completes, and no pod is left."""
    command = [sys.executable, "-m", "primepods.prefect.demo", "--once", "--runs", "1", "--boot-seconds", "1"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Completed") == 1
    assert "Pods rented: 1. Pods left: 0." in done.stdout


def test_the_demo_uses_no_port_of_another_server() -> None:
    """Otherwise it would deploy its flow there."""
    from primepods.prefect import demo

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(SystemExit, match="cannot be used"),
    ):
        demo.main(["--port", str(server.getsockname()[1])])
