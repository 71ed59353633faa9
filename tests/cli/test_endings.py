"""Whatever ends a run, what its command has saved is here, or its pod is held and told, or its limit is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from primepods.emulator import Emulator

from .test_run import OPTIONS, here, market, wait_for
from .test_runs import command, no_process_is_left, records

__all__ = ["here", "market", "no_process_is_left"]

TRAINING = "trap 'echo saved >>out; exit 3' TERM; echo begun | tee out; while :; do sleep 0.05; done"
"""Saves its work when it is asked to end, as a program for an overnight run does."""


@attrs.frozen
class Life:
    """A run while its command runs."""

    process: subprocess.Popen[str]
    name: str
    pods: Path

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        self.process.send_signal(number)

    def stop(self, *words: str) -> None:
        """End it from another terminal."""
        command("stop", self.name, *words)

    def kill_supervisor(self) -> None:
        """Kill the shell on the pod that waits for the command."""
        [started] = self.pods.glob("*/*/.primepods/jobs/*/started")
        os.kill(int(started.read_text(encoding="utf-8").split()[0]), signal.SIGKILL)


def live(tmp_path: Path, *words: str) -> Life:
    """Begin a run, and return when its command has begun."""
    process = command("run", *OPTIONS, "--download", "out:results/", *words, "--", TRAINING)
    homes = tmp_path / "pods"
    wait_for(lambda: process.poll() is not None or any(record["job"] for record in records(tmp_path)))
    wait_for(lambda: process.poll() is not None or any(homes.glob("*/*/out")))
    names = [path.name for path in (tmp_path / "state" / "runs").glob("*")]
    return Life(process, *names, homes)


ENDS: dict[str, tuple[list[str], Callable[[Life], object], int, str]] = {
    "max-hours": (["--max-hours", "10s"], lambda _: None, 5, "its limit was near (--max-hours 10s)"),
    "max-spend": (["--max-spend", "0.005"], lambda _: None, 5, "its limit was near (--max-spend $0.0050)"),
    "stop": ([], Life.stop, 130, "it was stopped"),
    "Ctrl-C": ([], lambda life: life.send(signal.SIGINT), 130, "it was stopped"),
    "SIGTERM": ([], lambda life: life.send(signal.SIGTERM), 143, "it was stopped by SIGTERM"),
    "SIGHUP": ([], lambda life: life.send(signal.SIGHUP), 129, "it was stopped by SIGHUP"),
    "job lost": ([], Life.kill_supervisor, 4, "the job was lost on its pod"),
}


@pytest.mark.parametrize(("words", "end", "code", "says"), ENDS.values(), ids=ENDS)
def test_what_the_command_saved_is_here_whatever_ends_it(
    market: Emulator,
    tmp_path: Path,
    words: list[str],
    end: Callable[[Life], object],
    code: int,
    says: str,
) -> None:
    """The command is asked to end and has the time to save; then its results come, and the pod goes."""
    life = live(tmp_path, *words)
    end(life)
    out, err = life.process.communicate(timeout=60)
    assert (life.process.returncode, out) == (code, "begun\n"), err
    assert Path("results/out").read_text(encoding="utf-8") == "begun\nsaved\n"
    assert not market.pods
    verdict = err.splitlines()[-1]
    assert verdict.startswith(f"{life.name}: {says}, "), err
    assert verdict.endswith("No pod is left."), err
    assert "Results in results/ (12 bytes). Cost about $0.00" in verdict
