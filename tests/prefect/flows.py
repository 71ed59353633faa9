"""Flows that the tests run on emulated pods; each file of theirs lies in the pod's home directory."""

import os
import time
from pathlib import Path

from prefect import flow, task


@task
def add_up(steps: int) -> int:
    """Do some work."""
    return sum(range(steps))


@flow(log_prints=True)
def train(steps: int = 3) -> int:
    """Say where it runs, and work a little."""
    print(f"running in {Path.home().name}, with {sorted(name for name in os.environ if 'PRIME_' in name)}")
    return add_up(steps)


@flow
def sleep() -> None:
    """Wait in small steps, so that a signal ends it."""
    ends_at = time.monotonic() + 600.0
    while time.monotonic() < ends_at:
        time.sleep(0.1)


@flow
def fail() -> None:
    """Fail, as a training does that has a defect."""
    raise RuntimeError("no gradient today")
