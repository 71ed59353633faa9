"""The benchmark of leaks counts what is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_few_jobs_with_each_tool(tmp_path: Path) -> None:
    """With primepods, no pod is left, no claimed deletion has not happened; there is a picture."""
    command = [sys.executable, "-m", "benchmarks.leaks", "--jobs", "6", "--only", "primepods", "requests"]
    command += ["--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = map(json.loads, done.stdout.splitlines())
    assert (ours["tool"], ours["left"], ours["false claims"]) == ("primepods", 0, 0)
    assert (theirs["tool"], theirs["jobs"]) == ("requests", 6)
    picture = ET.parse(tmp_path / "leaks.svg").getroot()
    assert "after 6 jobs" in "".join(picture.itertext())
