"""One command on a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Final

import anyio

from .._utils.arguments import check_callable, check_flag, check_seconds
from .._utils.text import clip, one_line, quote
from ..errors import CommandError, CommandTimeoutError, ConnectionLostError
from ._exchange import call_back, echo, exchange
from ._login import Login
from ._output import Lines, Tail
from ._scripts import command_script
from ._session import Sink
from .results import CommandResult, OnLine, OutputLine, Stream

MAX_CAPTURED: Final = 16 << 20
"""Max bytes to keep of the end of each stream."""
MAX_CAPTURED_IF_STREAMED: Final = 64 << 10
"""Max bytes to keep of the end of each stream, with ``on_line`` or ``capture=False``."""
_MAX_SHOWN: Final = 500
"""Max characters of output in a message."""


class Command:
    """Command for a pod, to run once; the constructor checks the arguments. See :meth:`AsyncRemote.run`."""

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: str | None,
        input: str | bytes | None,
        timeout: float | None,
        on_line: OnLine | None,
        capture: bool,
        node: int = 0,
    ) -> None:
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_flag("capture", capture)
        if on_line is not None:
            check_callable("on_line", on_line)
        if on_line is not None and not capture:
            raise ValueError("on_line cannot be combined with capture=False: use one of them")
        if not isinstance(input, str | bytes | None):
            raise TypeError(f"input must be text or bytes, got {quote(input)}")
        data = input.encode() if isinstance(input, str) else input
        self._shown = quote(command)
        size = None if data is None else len(data)
        script = command_script(command, env=env or {}, cwd=cwd, input_size=size)
        # ssh's standard input stays open after these bytes, since closing it would end the command.
        self._script = script + (data or b"")
        self._timeout = timeout
        self._stdout = Output("stdout", on_line, capture=capture, node=node)
        self._stderr = Output("stderr", on_line, capture=capture, node=node)

    async def run(self, login: Login, *, check: bool = True) -> CommandResult:
        """Run the command; for its errors see :meth:`AsyncRemote.run`."""
        sinks: dict[Stream, Sink] = {"stdout": self._stdout.add, "stderr": self._stderr.add}
        async with login.session() as session:
            started_at = anyio.current_time()
            with anyio.move_on_after(self._timeout) as scope, closing(self._stdout), closing(self._stderr):
                await exchange(session, self._script, None, sinks)
                await self._stdout.end()
                await self._stderr.end()
            seconds = anyio.current_time() - started_at
        stdout, stderr = self._stdout.tail.text(), self._stderr.tail.text()
        if scope.cancelled_caught:
            raise CommandTimeoutError(
                f"{self._shown} on pod {login.label} ran longer than {self._timeout:g} s. Its "
                f"connection was closed, so that the pod stops it.{last_line(stderr)}",
                pod_id=login.pod_id,
                exit_code=None,
                stdout=stdout,
                stderr=stderr,
                seconds=seconds,
            )
        # The script ends both streams with the exit code. Without it, the connection was lost.
        if session.stderr.exit_code is None:
            raise ConnectionLostError(
                f"The connection to pod {login.label} was lost {seconds:.1f} s after {self._shown} began. "
                f"The command may have finished: check before you run it again.{last_line(stderr)}",
                pod_id=login.pod_id,
                stdout=stdout,
                stderr=stderr,
            )
        result = CommandResult(
            exit_code=session.stderr.exit_code,
            seconds=seconds,
            stdout=stdout,
            stderr=stderr,
            is_truncated=self._stdout.tail.is_truncated or self._stderr.tail.is_truncated,
        )
        if check:
            check_exit_code(result, f"{self._shown} on pod {login.label}", login.pod_id)
        return result


class Output:
    """Sink for one output stream: keeps its last bytes, calls ``on_line``, and echoes if not ``capture``."""

    def __init__(self, stream: Stream, on_line: OnLine | None, *, capture: bool, node: int = 0) -> None:
        is_streamed = on_line is not None or not capture
        self.tail = Tail(MAX_CAPTURED_IF_STREAMED if is_streamed else MAX_CAPTURED)
        self._stream: Stream = stream
        self._node = node
        self._on_line = on_line
        self._lines = Lines()
        self._echo = None if capture else echo(stream)

    async def add(self, piece: bytes) -> None:
        await self.tail.add(piece)
        if self._echo is not None:
            await self._echo(piece)
        if self._on_line is not None:
            await self._call(self._on_line, self._lines.feed(piece))

    async def end(self) -> None:
        if self._on_line is not None:
            await self._call(self._on_line, self._lines.end())

    def close(self) -> None:
        if self._echo is not None:
            self._echo.close()

    async def _call(self, on_line: OnLine, lines: list[tuple[str, int]]) -> None:
        for text, _ in lines:
            await call_back(on_line, OutputLine(text=text, stream=self._stream, node=self._node))


def check_exit_code(result: CommandResult, subject: str, pod_id: str) -> None:
    """Raise :class:`CommandError` if the exit code is not 0; ``subject`` names the command or job."""
    if result.exit_code:
        raise CommandError(
            f"{subject} ended with exit code {result.exit_code}.{last_line(result.stderr)}",
            pod_id=pod_id,
            exit_code=result.exit_code,
            stdout=result.stdout,
            stderr=result.stderr,
            seconds=result.seconds,
        )


def last_line(stderr: str) -> str:
    """Return a sentence with the last line that is not blank; empty if there is none."""
    last = last_text(stderr)
    return f" Its last line on stderr: {last}" if last else ""


def last_text(output: str) -> str:
    """Return the last line that is not blank, clipped; empty if there is none."""
    lines = output.split("\n")
    return clip(next((line for line in map(one_line, reversed(lines)) if line), ""), _MAX_SHOWN)
