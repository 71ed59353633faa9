"""Running a command on a pod with the system's ``ssh``."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Final

import anyio
import anyio.abc
import attrs

from .. import SSHTarget

SSH_FAILED: Final = 255
"""What ``ssh`` itself exits with when it cannot log in, or loses its connection."""
_PAUSE: Final = 2.0
_LONGEST_LINE: Final = 8_192
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

OnLine = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Remote:
    """A pod to log in to.

    Attributes:
        target: Where and as whom.
        program: The words in the place of ``ssh``.
        options: Options of the user's, which come first and so win over those below.
        known_hosts: A file of this run alone. Pods are new machines at addresses that others have had: a host
            key is taken as it is at the first login, and must stay the same after that.
    """

    target: SSHTarget
    program: Sequence[str]
    options: Sequence[str]
    known_hosts: str

    async def wait_until_open(self, timeout: float) -> None:
        """Return when the pod lets us log in; nothing has been run on it but ``true``.

        Args:
            timeout: Seconds to try.

        Raises:
            TimeoutError: It did not; says what ``ssh`` said.
        """
        said: list[str] = []
        with anyio.move_on_after(timeout):
            while True:
                said.clear()
                if await self.run("exec true", script="", on_line=said.append) != SSH_FAILED:
                    return
                await anyio.sleep(_PAUSE)
        raise TimeoutError(
            f"Could not log in with `{self.target}` within {timeout:g} s of its being ready: "
            f"{' '.join(said).strip() or 'ssh said nothing'}. The worker needs the private key (ssh_options: "
            "-i, FILE), whose public part the account has, or which the spec names as ssh_key_id."
        )

    async def run(self, line: str, *, script: str, on_line: OnLine) -> int:
        """Run a line in the shell of the pod; return its exit code. Cancelled, kill ``ssh``.

        Args:
            line: The line, which others on the pod and on this machine can see.
            script: Its standard input, which nobody can see.
            on_line: Called with each line of its output.
        """
        options = [*self.options, "-T", "-a", "-x", *_defaults(self.known_hosts)]
        argv = [*self.program, *self.target.argv(*options, command=line)[1:]]
        # A group of its own: Ctrl-C is for the worker, which deletes the pod; and what ssh starts to reach
        # the pod ends with it.
        process = await anyio.open_process(
            argv, stdin=PIPE if script else DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_write, process, script)
                await _read(process, on_line)
            return await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.aclose()


def make_script(command: str, setup: str | None, env: Mapping[str, str | None]) -> str:
    """Return a script for ``sh -s`` that sets up and runs a command with some environment variables.

    It goes to the pod by standard input, so that no list of processes and no log shows the variables. The
    shell reads it to its end before it runs anything: one that was cut on the way does nothing.

    Raises:
        ValueError: A variable that no environment can hold; its value is not shown.
    """
    lines = ["{"]
    for name, value in env.items():
        if value is None:
            continue
        if not _NAME.fullmatch(name) or "\0" in value:
            raise ValueError(
                f"The environment variable {name!r} cannot be set on the pod: names are letters, digits and "
                "_, and values hold no NUL. Change `env` in the job variables."
            )
        lines.append(f"export {name}={shlex.quote(value)}")
    if setup:
        # In the same shell, so that what it exports is there for the command.
        lines += ["set -e", f"eval {shlex.quote(setup)}"]
    lines += [f"exec sh -c {shlex.quote(command)}", "} </dev/null", ""]
    return "\n".join(lines)


def _defaults(known_hosts: str) -> list[str]:
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ControlPath": "none",
        "LogLevel": "ERROR",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


async def _write(process: anyio.abc.Process, script: str) -> None:
    if process.stdin is None:
        return
    # Not taken to the end: ssh has ended, and its exit code says why.
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.send(script.encode())
        await process.stdin.aclose()


async def _read(process: anyio.abc.Process, on_line: OnLine) -> None:
    """Give each line of the output away, also of progress bars that only go back to its beginning."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    async for chunk in process.stdout:
        *lines, rest = re.split("[\r\n]", rest + decoder.decode(chunk))
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        for line in map(_as_text, lines):
            if line:
                on_line(line)
    if rest := _as_text(rest):
        on_line(rest)


def _as_text(line: str) -> str:
    """Return a line without what moves a cursor or colours a terminal."""
    return "".join(char for char in _ESCAPE.sub("", line) if char.isprintable() or char == "\t").rstrip()
