"""The soak runs, and nothing goes wrong while it does."""

import json

import pytest

from . import run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_seconds_of_everything_at_once() -> None:
    """Whatever bad answers do, no result is wrong, and no task, socket or thread is left."""
    done = run("benchmarks.soak", "--seconds", "3", "--pods", "200", "--fault-share", "0.05")
    results = json.loads(done.stdout)
    assert results["requests_with_faults"] > 0
    assert {results[f"{kind}_at_end"] for kind in ("tasks", "sockets", "threads")} == {0}
