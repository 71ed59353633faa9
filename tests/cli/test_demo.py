"""`primepods demo`: the whole story, told on a few pods."""

import os
import pty
import re
import shlex
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

import primepods
from primepods.cli import demo
from primepods.cli.app import app
from tests.cli.conftest import chunks


def run(*arguments: str) -> Result:
    """The demo, with small or fast settings."""
    return CliRunner().invoke(app, ["demo", "--speed", "1000", *arguments])


@pytest.mark.slow
def test_story() -> None:
    """Listing, waiting, the fleet, its failures and deletion, in this order."""
    result = run("--pods", "120", "--failure-rate", "0.2")
    assert result.exit_code == 0, result.output
    story = [
        r"listed: 120 of 120",
        r"settled: 120 of 120 \(\d+ ready, \d+ failed, 0 to go\)",
        r"ready +\d+ +\d+ +\$[\d,.]+ +\S+",
        r"all +120 +\d+ +\$[\d,.]+",
        r"\d+ failed and 5 ready pods: all \d+ deletions accepted",
        r"All are confirmed gone. The demo has sent \d+ requests.",
    ]
    assert re.search(".*".join(story), result.output, re.DOTALL), result.output
    assert "\x1b" not in result.output


@pytest.mark.slow
def test_goes_on_with_the_same_pods() -> None:
    """The command that the demo ends with serves the pods that it has shown."""
    output = run("--pods", "30", "--seed", "5").output
    shown = re.findall(r"^\S.* \$[\d.,]+  (\S+)$", output, re.MULTILINE)
    [command] = re.findall(r"emulator --pods .* -- .*(?= watch$)", output, re.MULTILINE)
    words = [sys.executable, "-m", "primepods", *shlex.split(f"{command} list --output csv --columns name")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + 30
    assert shown
    assert set(shown) <= set(done.stdout.splitlines())


@pytest.mark.slow
def test_in_a_terminal() -> None:
    """In a terminal there is a bar, and the demo ends as well as elsewhere."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "primepods", "demo", "--pods", "150", "--speed", "1000"]
    environment = os.environ | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = b"".join(chunks(ours))
    os.close(ours)
    assert process.returncode == 0, output
    assert b"150/150" in output
    assert b"\x1b[" in output


def test_errors_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong ends the demo with its reason and without a traceback."""

    async def broken(*_: object) -> None:
        raise primepods.PrimePodsError("[red]no route\x1b[2J")

    monkeypatch.setattr(demo, "_settle", broken)
    result = run("--pods", "1")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "primepods demo: [red]no route\N{REPLACEMENT CHARACTER}[2J"


def test_pods_that_never_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo does not wait for ever."""
    monkeypatch.setattr(demo, "MAX_BOOT_FACTOR", 0)
    monkeypatch.setattr(demo, "EXTRA_TIMEOUT", 0.3)
    result = CliRunner().invoke(app, ["demo", "--pods", "2", "--speed", "1"])
    assert result.exit_code == 3
    assert "After 0.3 s 2 of 2 pods are still pending" in result.output
