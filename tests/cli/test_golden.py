"""What the reading commands print: on terminals of 80 and of 200 columns, and in a pipe.

After a change that is meant, PRIMEPODS_WRITE_GOLDEN=1 lets these tests write the files anew.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from primepods.emulator import Emulator, ManualClock
from tests.cli.conftest import Run, in_terminal, name_api

FOLDER = Path(__file__).parent / "golden"
COMMANDS = {
    "list": ["list", "--sort", "name"],
    "status": ["status", "pod1", "pod2", "pod3"],
    "history": ["history", "--limit", "9"],
    "offers": ["offers", "--gpu-type", "B200", "--sort", "per-gpu"],
}


def compare(file: str, shown: str) -> None:
    """Hold what was shown against what was shown when somebody last looked at it."""
    path = FOLDER / file
    if os.environ.get("PRIMEPODS_WRITE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


@pytest.fixture
def fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A pod that is ready, one that failed and one that installs; with a history of last January."""
    # The age of a pod is counted from now; what is in the history has dates.
    recent = datetime.now(UTC) - timedelta(days=3, minutes=30)
    clock = ManualClock(epoch=recent) if "list" in request.node.name else ManualClock()
    monkeypatch.setenv("NO_COLOR", "1")
    with Emulator(clock=clock, seed=3, history=12, spot_rate=0.2) as emulator:
        emulator.add_pod(
            "train-large-batches-on-everything",
            id="pod1",
            gpu_name="H100_80GB",
            gpu_count=4,
            provider="runpod",
            price_hr=12.5,
            boot_seconds=0,
        )
        emulator.add_pod("broken", id="pod2", gpu_count=1, failure="no space left on device", boot_seconds=60)
        emulator.add_pod("two nodes", id="pod3", nodes=2, gpu_count=16, boot_seconds=1000, team_id="team1")
        emulator.advance(500)
        name_api(emulator, monkeypatch)
        yield emulator


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [80, 200])
def test_terminal(fleet: Emulator, monkeypatch: pytest.MonkeyPatch, command: str, columns: int) -> None:
    """What matters most is there on 80 columns, the rest on 200, each row on a line."""
    code, shown = in_terminal(monkeypatch, *COMMANDS[command], columns=columns)
    assert code == 0
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= columns
    compare(f"{command}-{columns}.txt", shown)


def test_pipe(fleet: Emulator, run: Run) -> None:
    """Nothing is cut or left out where nobody knows how wide it may be."""
    status = run(*COMMANDS["status"])
    assert (status.exit_code, status.stderr) == (0, "")
    compare("status-200.txt", status.stdout)
    compare("get.txt", run("get", "pod1").stdout)
