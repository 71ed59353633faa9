"""The soak runs, and nothing goes wrong while it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seconds_of_everything_at_once() -> None:
    """Whatever bad answers do, no result is wrong, and no task, socket or thread is left."""
    # What is measured is not to be traced.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    words = ["-m", "benchmarks.soak", "--seconds", "3", "--pods", "200", "--fault-share", "0.05"]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert results["requests_with_faults"] > 0
    assert {results[f"{kind}_at_end"] for kind in ("tasks", "sockets", "threads")} == {0}
