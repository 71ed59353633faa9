"""`python -m benchmarks.waiting` runs. No thresholds: figures of a test machine mean nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_of_waiting_prints_its_table() -> None:
    """Every way to wait is measured; on any machine the loops send a request a waiter, the poller fewer."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.waiting", "--quick"],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| 100 ")]
    assert ["wait_ready" in lines[0][2], "get" in lines[1][2], "status" in lines[2][2]] == [True] * 3
    requests = [int(cells[3].replace(",", "")) for cells in lines]
    assert requests[0] < 100 <= min(requests[1:])
    assert "at most 2 requests a tick: " in done.stdout
    assert "under 40 open files: kept" in done.stdout
