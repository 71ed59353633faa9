"""One ``ssh`` process, whose shell on the pod reads and runs one script."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
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

_CHUNK_SIZE: Final = 65_536
_END_TIMEOUT: Final = 3.0
"""Seconds for a stopped script to end on the pod before the connection is closed."""


class Session:
    """Connection to a pod, for one script.

    Attributes:
        mark: Prefix of the marks around the script's output.
        stdout: Parser of the standard output, unless a thread reads ``raw_stdout``.
        stderr: Parser of the standard error.
        raw_stdout: Unparsed standard output with marks, for a thread; ``None`` without ``has_raw_stdout``.
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
        self._ends_with_stdin = False
        """Whether closing the standard input ends the script."""
        self._is_stopping = False
        """Whether :meth:`stop` has closed the standard input."""

    @classmethod
    async def start(cls, make_argv: Callable[[str], list[str]], *, has_raw_stdout: bool) -> Self:
        """Start ``ssh``.

        Args:
            make_argv: Returns the arguments of ``ssh`` for a command line on the pod.
            has_raw_stdout: Whether a thread reads the standard output from ``raw_stdout``, unparsed.

        Raises:
            OSError: ``ssh`` cannot be started.
        """
        mark = f"primepods-{secrets.token_hex(16)}"
        raw_stdout: BinaryIO | None = None
        with ExitStack() as child_ends, ExitStack() as our_ends:
            stdin_of_child, writer = os.pipe()
            child_ends.callback(os.close, stdin_of_child)
            stdin = our_ends.enter_context(os.fdopen(writer, "wb"))
            stdout_of_child = PIPE
            if has_raw_stdout:
                reader, stdout_of_child = os.pipe()
                child_ends.callback(os.close, stdout_of_child)
                raw_stdout = our_ends.enter_context(os.fdopen(reader, "rb"))
            # ssh gets its own process group, so that Ctrl-C does not reach it, and `_kill_ssh` also ends the
            # processes that ssh has started.
            opening = asyncio.ensure_future(
                anyio.open_process(
                    make_argv(bootstrap(mark)),
                    stdin=stdin_of_child,
                    stdout=stdout_of_child,
                    stderr=PIPE,
                    env=environment_without_key(),
                    start_new_session=True,
                )
            )
            cancelled: asyncio.CancelledError | None = None
            # If cancelled, asyncio would wait for the end of a process that waits for the end of its input.
            with anyio.CancelScope(shield=True):
                while not opening.done():
                    try:
                        await asyncio.wait({opening})
                    except asyncio.CancelledError as exc:
                        cancelled = exc
            session = cls(opening.result(), mark, stdin, raw_stdout)
            our_ends.pop_all()  # the session closes them
            if cancelled is not None:
                await session.aclose()
                raise cancelled
            return session

    async def wait_ready(self) -> bool:
        """Wait until the shell on the pod reads a script; return ``False`` if the connection ends first."""
        while not self.stderr.is_ready:
            data = await _receive(self._process.stderr)
            if not data:
                return False
            self.stderr.feed(data)
        return True

    async def send(self, script: bytes, write: Callable[[BinaryIO], object] | None = None) -> None:
        """Send the script and its input.

        Args:
            script: The script.
            write: Writes the input, in a thread; then the standard input is closed. Without ``write``, the
                standard input stays open until the script must stop.

        Raises:
            Exception: An error of ``write``, except a broken pipe.
        """
        await in_thread(self._send, script, write)

    def _send(self, script: bytes, write: Callable[[BinaryIO], object] | None) -> None:
        # Ignore a broken pipe: the script's exit code, or its absence, shows the failure.
        with suppress(BrokenPipeError):
            self._stdin.write(script)
            self._stdin.flush()
            if write is not None:
                try:
                    write(self._stdin)
                except Exception as exc:
                    # The incomplete input makes the script clean up and end.
                    self._ends_with_stdin = not isinstance(exc, BrokenPipeError)
                    raise
                finally:
                    self._stdin.close()
        if write is None:
            self._ends_with_stdin = True

    async def receive(self, stream: Stream) -> bytes:
        """Return the next piece of the command's output; empty if the command or the connection has ended.

        A last part that may belong to the exit mark is held back.
        """
        source, output = self._source(stream)
        while output.exit_code is None and (data := await _receive(source)):
            if piece := output.feed(data):
                return piece
        return b""

    async def forward_output(self, stream: Stream, sink: Sink) -> None:
        """Pass the command's output to ``sink`` as it arrives, until the command or the connection ends."""
        while piece := await self.receive(stream):
            await sink(piece)
        if rest := self._source(stream)[1].end():
            await sink(rest)

    def _source(self, stream: Stream) -> tuple[anyio.abc.ByteReceiveStream | None, MarkedOutput]:
        if stream == "stdout":
            return self._process.stdout, self.stdout
        return self._process.stderr, self.stderr

    def stop(self) -> None:
        """Close the standard input if that ends the script; otherwise kill ``ssh``.

        Pending calls of this session then return.
        """
        if self._ends_with_stdin and self.stderr.exit_code is None:
            self._is_stopping = True
            with suppress(BrokenPipeError):
                self._stdin.close()
        else:
            self._kill_ssh()

    async def aclose(self) -> None:
        """End ``ssh``; first give a stopped script three seconds to end on the pod."""
        with anyio.CancelScope(shield=True):
            if self._is_stopping and self.stderr.exit_code is None:
                with anyio.move_on_after(_END_TIMEOUT):
                    async with anyio.create_task_group() as group:
                        group.start_soon(self.forward_output, "stdout", drop)
                        group.start_soon(self.forward_output, "stderr", drop)
            self._kill_ssh()
            with suppress(BrokenPipeError):
                self._stdin.close()
            if self.raw_stdout is not None:
                self.raw_stdout.close()
            await self._process.aclose()

    def _kill_ssh(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                if sys.platform != "win32":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking function in a thread; wait for its end even if cancelled."""
    # Under anyio's shared limit, threads that wait for each other could deadlock.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=limiter)


async def _receive(stream: anyio.abc.ByteReceiveStream | None) -> bytes:
    try:
        return b"" if stream is None else await stream.receive(_CHUNK_SIZE)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return b""


async def drop(_: bytes) -> None:
    """Ignore a chunk of output."""
