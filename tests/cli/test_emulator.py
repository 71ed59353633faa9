"""`primepods emulator`: what it prints, and how it ends."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import primepods
from primepods.cli.app import app

pytestmark = pytest.mark.anyio


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "primepods", "emulator", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_stopped(number: signal.Signals) -> None:
    """It prints what a shell needs to reach it, serves the pods asked for, and ends quietly when told to."""
    with start("--pods", "3", "--seed", "5", "--boot-seconds", "0", "--api-key", "k1") as process:
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


def test_port_that_is_taken() -> None:
    """The reason is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["emulator", "--port", str(port)])
    assert result.exit_code == 1
    assert "primepods emulator: " in result.output
    assert os.strerror(98) in result.output or "in use" in result.output


@pytest.mark.parametrize(
    "arguments",
    [["--speed", "0"], ["--speed", "nan"], ["--pods", "-1"], ["--port", "70000"], ["--api-key", "a b"]],
)
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    """What cannot be emulated is refused as a wrong argument."""
    result = CliRunner().invoke(app, ["emulator", *arguments])
    assert result.exit_code == 2
    assert "Invalid value" in result.output
