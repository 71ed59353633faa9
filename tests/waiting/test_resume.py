"""Rule 5: a process is killed in the middle of a wait, and another ends the same wait with the same ids."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from primepods.emulator import Emulator, ManualClock

pytestmark = pytest.mark.slow

# Waits for real: what it waits for is moved by the test, in the emulator's process.
WAIT = """
import asyncio, json, sys
import primepods

def say(kind, **what):
    print(json.dumps({"kind": kind, **what}), flush=True)

def note(change):
    say("saw", pod=change.pod_id, status=change.after and change.after.status)

async def main(url, key, until, *ids):
    async with primepods.AsyncClient(key, base_url=url) as client:
        try:
            statuses = await client.pods.wait(
                ids,
                until=getattr(primepods, until),
                interval=0.05,
                timeout=40,
                appear_grace=20,
                on_change=note,
            )
        except primepods.PrimePodsError as error:
            say("error", type=type(error).__name__, pod=getattr(error, "pod_id", None))
        else:
            ready = [pod_id for pod_id, status in statuses.items() if status.is_ready]
            say("done", ready=ready, failed=[*(statuses.keys() - set(ready))], missing=list(statuses.missing))

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def waiter(emu: Emulator, until: str, ids: list[str]) -> Iterator[Iterator[dict[str, Any]]]:
    """A process that waits; gives what it says, line by line. Killed at the end, if it has not ended."""
    command = [sys.executable, "-c", WAIT, emu.url, emu.api_key, until, *ids]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield map(json.loads, process.stdout)
        finally:
            process.kill()


def last_of(emu: Emulator, until: str, ids: list[str]) -> dict[str, Any]:
    """The last word of a wait that is let run to its end."""
    with waiter(emu, until, ids) as lines:
        return list(lines)[-1]


@contextmanager
def killed(until: str) -> Iterator[tuple[Emulator, list[str]]]:
    """Three pods that boot, of which a process has seen the first steps before it was killed."""
    clock = ManualClock()
    with Emulator(clock=clock, cluster_rate=0) as emu:
        ids = [emu.add_pod(boot_seconds=seconds) for seconds in (0, 100, 200)]
        with waiter(emu, until, ids) as lines:
            seen = {next(lines)["pod"] for _ in ids}
            assert seen == set(ids)
            clock.advance(50)
            # In the middle: it has seen that time passes, and waits on.
            assert next(lines)["kind"] == "saw"
        assert {request.method for request in emu.requests} == {"GET"}
        assert list(emu.pods) == ids
        yield emu, ids


def test_a_pod_that_vanished_in_between_is_told_from_one_that_is_not_there_yet() -> None:
    """The history knows it, so that nobody waits for it; a pod that is in neither may still appear."""
    with killed("settled") as (emu, ids):
        emu.delete_pod(ids[1])
        emu.advance(200)
        assert last_of(emu, "ready", ids)["type"] == "PodFailedError"
        settled = {"kind": "done", "ready": [ids[0], ids[2]], "failed": [], "missing": [ids[1]]}
        assert last_of(emu, "settled", ids) == settled
        assert last_of(emu, "gone", [ids[1]])["missing"] == [ids[1]]
        with waiter(emu, "ready", ["later"]) as lines:
            emu.add_pod(id="later", boot_seconds=0)
            assert list(lines)[-1]["ready"] == ["later"]
