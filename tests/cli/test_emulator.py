"""`primepods emulator`: what it prints, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import primepods
from primepods.emulator import Emulator
from tests.cli.conftest import Run

pytestmark = pytest.mark.anyio


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "primepods", "emulator", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_stopped(number: signal.Signals, tmp_path: Path) -> None:
    """It prints what a shell needs to reach it, serves the pods asked for, and ends quietly when told to."""
    state = ["--state", str(tmp_path / "state.json")]
    with start("--pods", "3", "--seed", "5", "--boot-seconds", "0", "--api-key", "k1", *state) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline().strip(), process.stdout.readline().strip()]
        names = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        async with primepods.AsyncClient(
            names["PRIME_API_KEY"], base_url=names["PRIME_API_BASE_URL"]
        ) as client:
            ready = [pod.is_ready async for pod in client.pods.list()]
        process.send_signal(number)
        said = process.stderr.read()
    assert all(line.startswith("export ") for line in lines)
    assert names["PRIME_API_KEY"] == "k1"
    assert ready == [True] * 3
    assert (process.returncode, said) == (0, "Serving until Ctrl-C.\n")
    assert len(Emulator.load(tmp_path / "state.json").pods) == 3


def test_port_that_is_taken(run: Run) -> None:
    """The reason is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("emulator", "--port", str(port))
    assert result.exit_code == 1
    assert "primepods emulator: " in result.output
    assert os.strerror(98) in result.output or "in use" in result.output


def test_a_state_that_cannot_be_saved(run: Run, tmp_path: Path) -> None:
    """Is told before there is something to lose."""
    result = run("emulator", "--state", str(tmp_path / "no" / "state.json"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "state.json" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--speed", "0"], ["--speed", "nan"], ["--pods", "-1"], ["--port", "70000"], ["--api-key", "a b"]],
)
def test_arguments_that_make_no_sense(run: Run, arguments: list[str]) -> None:
    """What cannot be emulated is refused as a wrong argument."""
    result = run("emulator", *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert result.output.startswith("primepods emulator: ")
