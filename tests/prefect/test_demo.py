"""What the guide has a newcomer type."""

from __future__ import annotations

import os
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
    assert "1 pods were rented, 0 are left." in done.stdout
