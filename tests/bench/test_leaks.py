"""The benchmark of leaks counts what is left."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from . import run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_few_jobs_with_each_tool(tmp_path: Path) -> None:
    """With primepods, no pod is left, no claimed deletion has not happened; there is a picture."""
    words = ["--jobs", "6", "--only", "primepods", "requests", "--output", str(tmp_path)]
    done = run("benchmarks.leaks", *words)
    ours, theirs = map(json.loads, done.stdout.splitlines())
    assert (ours["tool"], ours["left"], ours["false claims"]) == ("primepods", 0, 0)
    assert (theirs["tool"], theirs["jobs"]) == ("requests", 6)
    picture = ET.parse(tmp_path / "leaks.svg").getroot()
    assert "after 6 jobs" in "".join(picture.itertext())
