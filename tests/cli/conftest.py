"""The command in this process: in a pipe, or in a terminal of a given width."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TextIO

import attrs
import pytest
from typer.main import get_command

from primepods.cli.app import app
from primepods.emulator import Emulator


@attrs.frozen
class Result:
    """How the command ended, and what it said."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it said."""
        return self.stdout + self.stderr


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in a pipe: `run("list", "-o", "json", stdin="...")`."""

    def in_pipe(*arguments: str, stdin: str = "") -> Result:
        out, err = io.StringIO(), io.StringIO()
        code = run_on(monkeypatch, arguments, io.StringIO(stdin), out, err)
        return Result(code, out.getvalue(), err.getvalue())

    return in_pipe


@cache
def command() -> Any:
    """All commands with their options, which take longer to read than most of them to run."""
    return get_command(app)


def run_on(
    monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], stdin: TextIO, stdout: TextIO, stderr: TextIO
) -> int:
    """Run the command in this process on these streams, and return its exit code."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", stdin)
        patched.setattr(sys, "stdout", stdout)
        patched.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit) as ended:
            command()(list(arguments), prog_name="primepods")
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An API with three pods, and the variables that name it."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        for number in range(3):
            emulator.add_pod(id=f"pod{number}", name=f"train-{number}", gpu_name="H100_80GB", price_hr=2.5)
        name_api(emulator, monkeypatch)
        yield emulator


def name_api(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables by which the command finds the emulator."""
    monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
    monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)


def in_terminal(
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    columns: int = 80,
    typed: str = "",
    answer: Callable[[str], str] = lambda _: "",
) -> tuple[int, str]:
    """Run the command in this process on a terminal of its own; returns exit code and what is on screen.

    Args:
        monkeypatch: Gives it the terminal.
        arguments: What to run.
        columns: How wide the terminal is.
        typed: What is typed ahead.
        answer: Returns what is typed when this is on the screen.
    """
    ours, theirs = pty.openpty()
    set_size(ours, columns)
    shown: list[bytes] = []

    def read() -> None:
        for chunk in chunks(ours):
            shown.append(chunk)
            os.write(ours, answer(b"".join(shown).decode(errors="replace")).encode())

    reader = threading.Thread(target=read)
    reader.start()
    os.write(ours, typed.encode())
    with (
        os.fdopen(theirs, "w", encoding="utf-8") as screen,
        os.fdopen(os.dup(theirs), encoding="utf-8") as keys,
    ):
        code = run_on(monkeypatch, arguments, keys, screen, screen)
    reader.join(40)
    os.close(ours)
    return code, b"".join(shown).decode().replace("\r\n", "\n")


def set_size(terminal: int, columns: int) -> None:
    """Make a terminal so wide."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))


def chunks(terminal: int) -> Iterator[bytes]:
    """All that a terminal shows until its other side is closed."""
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # how Linux says that the other side is closed
            return
        if not chunk:
            return
        yield chunk
