"""One ``ssh`` process whose shell on the pod reads a script, and how it ends."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from subprocess import PIPE
from typing import BinaryIO, Final, ParamSpec, Self, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from ..config import environment_without_key
from ._output import MarkedOutput
from ._scripts import bootstrap
from .results import Stream

P = ParamSpec("P")
R = TypeVar("R")
Sink = Callable[[bytes], Awaitable[None]]

_CHUNK: Final = 65_536
_END_TIMEOUT: Final = 3.0
"""Seconds for a command that is stopped to end on the pod, before the connection is closed."""


class Session:
    """A connection to a pod, for one script.

    Attributes:
        mark: What the marks around its output begin with.
        stdout: What of its standard output is the command's, where that is read here.
        stderr: The same of its standard error.
        raw_stdout: Its standard output with the marks, to be read in a thread, where that was asked for.
    """

    def __init__(
        self, process: anyio.abc.Process, mark: str, stdin: BinaryIO, raw_stdout: BinaryIO | None
    ) -> None:
        self.mark = mark
        self.stdout = MarkedOutput(mark)
        self.stderr = MarkedOutput(mark)
        self.raw_stdout = raw_stdout
        self._process = process
        self._stdin = stdin
        self._can_hang_up = False

    @classmethod
    async def start(cls, make_argv: Callable[[str], list[str]], *, is_raw: bool) -> Self:
        """Start ``ssh``.

        Args:
            make_argv: Returns the command that runs a line on the pod.
            is_raw: Whether its standard output is read in a thread.

        Raises:
            OSError: There is no such program.
        """
        mark = f"primepods-{secrets.token_hex(16)}"
        raw_stdout: BinaryIO | None = None
        with ExitStack() as childs, ExitStack() as ours:
            stdin_of_child, writer = os.pipe()
            childs.callback(os.close, stdin_of_child)
            stdin = ours.enter_context(os.fdopen(writer, "wb"))
            stdout_of_child = PIPE
            if is_raw:
                reader, stdout_of_child = os.pipe()
                childs.callback(os.close, stdout_of_child)
                raw_stdout = ours.enter_context(os.fdopen(reader, "rb"))
            # A group of its own: Ctrl-C is ours to handle, and what ssh starts to reach the pod ends with it.
            process = await anyio.open_process(
                make_argv(bootstrap(mark)),
                stdin=stdin_of_child,
                stdout=stdout_of_child,
                stderr=PIPE,
                env=environment_without_key(),
                start_new_session=True,
            )
            ours.pop_all()
            return cls(process, mark, stdin, raw_stdout)

    async def is_ready(self) -> bool:
        """Tell whether the shell on the pod waits for a script; nothing was run where it does not."""
        while not self.stderr.is_ready:
            data = await _receive(self._process.stderr)
            if not data:
                return False
            self.stderr.feed(data)
        return True

    async def send(self, script: bytes, write: Callable[[BinaryIO], object] | None = None) -> None:
        """Send the script, and what it reads.

        Args:
            script: The script.
            write: Writes what it reads, in a thread; without it the standard input stays open, and its end
                is what stops the script.

        Raises:
            OSError: What ``write`` raises, unless nobody reads any more.
        """
        await in_thread(self._send, script, write)
        self._can_hang_up = write is None

    def _send(self, script: bytes, write: Callable[[BinaryIO], object] | None) -> None:
        # Not read to its end: how ssh or the script has ended says why.
        with suppress(BrokenPipeError):
            self._stdin.write(script)
            self._stdin.flush()
            if write is not None:
                write(self._stdin)
                self._stdin.close()

    async def pump(self, stream: Stream, sink: Sink) -> None:
        """Give the command's output to ``sink`` as it comes, until its end or the connection's."""
        source, output = (
            (self._process.stdout, self.stdout) if stream == "stdout" else (self._process.stderr, self.stderr)
        )
        while output.exit_code is None:
            data = await _receive(source)
            if piece := output.feed(data) if data else output.end():
                await sink(piece)
            if not data:
                return

    def stop(self) -> None:
        """Have a command that has not ended end on the pod; whatever waits for this session then ends."""
        if self._can_hang_up and self.stderr.exit_code is None:
            with suppress(BrokenPipeError):
                self._stdin.close()
        else:
            self._kill()

    async def aclose(self) -> None:
        """End ``ssh``; a command that was stopped gets three seconds to end on the pod before that."""
        with anyio.CancelScope(shield=True):
            if self._stdin.closed and self._can_hang_up and self.stderr.exit_code is None:
                with anyio.move_on_after(_END_TIMEOUT):
                    await self._drain()
            self._kill()
            with suppress(BrokenPipeError):
                self._stdin.close()
            if self.raw_stdout is not None:
                self.raw_stdout.close()
            await self._process.aclose()

    async def _drain(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.pump, "stdout", _drop)
            group.start_soon(self.pump, "stderr", _drop)

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what blocks in a thread of its own; cancelled, wait for its end all the same."""
    # Others' threads may wait for this one: a limit that they share would be a deadlock.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=limiter)


async def _receive(stream: anyio.abc.ByteReceiveStream | None) -> bytes:
    """Return a piece; none at the end."""
    try:
        return b"" if stream is None else await stream.receive(_CHUNK)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return b""


async def _drop(_: bytes) -> None:
    """Pass over a piece of output."""
