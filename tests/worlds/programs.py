"""Programs that machines start: `ssh`, with the pods' side of jobs, and the processes of detached runs."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shlex
import tarfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import simloom

from primepods.runs import find_run

from .clocks import EPOCH, now

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

_CUTS: Final = 2_000
"""Every second connection is cut, within so many halves of bytes; its pod's output is about as long."""
_LOOK_INTERVAL: Final = 30.0
_READ_INTERVAL: Final = 0.05
_ALIAS: Final = re.compile(r"HostKeyAlias=(\S+)")


@attrs.define
class Job:
    """A job on a pod: `print N CODE` prints a line a second, `sleep N` prints nothing, `save N CODE` saves.

    Attributes:
        name: Its name.
        token: The token of its start.
        command: Its command.
        label: The beginning of its lines: `a`, and after a restart `b`.
        started_at: When it began, in whole seconds.
        stopped_at: When it was stopped.
    """

    name: str
    token: str
    command: list[str]
    label: str
    started_at: int = attrs.field(factory=lambda: int(now()))
    stopped_at: float = float("inf")

    @property
    def ends_at(self) -> float:
        """When it ends."""
        return min(self.stopped_at, self.started_at + int(self.command[1]))

    def output(self, until: float = float("inf")) -> bytes:
        """Return what it has printed by then."""
        lines = int(min(until, self.ends_at) - self.started_at) if self.command[0] == "print" else 0
        return b"".join(b"%s%d\n" % (self.label.encode(), number) for number in range(lines))

    def saved(self) -> int:
        """Return how often it has saved its file `out` so far, once in ten seconds."""
        return int(min(now(), self.ends_at) - self.started_at) // 10

    def received(self, data: bytes) -> bytes:
        """Return the part of its output with which some data begins."""
        output = self.output()
        return next(output[:end] for end in range(len(output), -1, -1) if data.startswith(output[:end]))

    def state(self) -> bytes:
        """Return the line that `job.sh` prints of it."""
        start, end = (int(EPOCH.timestamp() + time) for time in (self.started_at, min(self.ends_at, now())))
        code = 143 if self.ends_at == self.stopped_at else int((*self.command, "0")[2])
        became = "running - -" if now() < self.ends_at else f"ended {end} {code}"
        return f"job {self.name} {start} {became}\n".encode()


class Ssh(asyncio.SubprocessTransport):
    """A process of `ssh`, whose connection may be cut at any byte. What it runs on the pod goes on.

    Args:
        machine: Where it runs.
        argv: Its arguments.
        stdin: Its standard input.
        stdout: Its standard output; -1 for the protocol.
        protocol: Told of its output.
    """

    def __init__(
        self, machine: Machine, argv: tuple[str, ...], stdin: int, stdout: int, protocol: Any
    ) -> None:
        super().__init__()
        self.machine: Machine = machine
        self.pid: int = machine.world.new_pid()
        self._world: World = machine.world
        self._pod_id = str(_ALIAS.findall(" ".join(argv))[0])
        self._mark = shlex.split(argv[-1])[-1]
        self._stdin = os.dup(stdin)
        os.set_blocking(self._stdin, False)
        self._stdout = -1 if stdout < 0 else os.dup(stdout)
        self._protocol = protocol
        self._code: int | None = None
        self._ended = asyncio.Event()
        cut: int = simloom.draw("ssh.cut", _CUTS)
        self._left = cut if 0 < cut < _CUTS // 2 else 1 << 30

    async def serve(self) -> None:
        """Do what a script asks, as `job.sh` does, and end."""
        code = 255
        try:
            await asyncio.sleep(_READ_INTERVAL)
            self._check()
            self._emit(2, f"{self._mark} ready\n".encode())
            self._emit(1, f"{self._mark} ready\n".encode())
            code = await self._act(*await self._read_script())
            self._emit(1, f"{self._mark} exit {code}\n".encode())
            self._emit(2, f"{self._mark} exit {code}\n".encode())
        except ConnectionError:
            pass
        self.end(code)

    async def _read_script(self) -> list[str]:
        text = b""
        while True:
            self._check()
            try:
                piece = os.read(self._stdin, 1 << 16)
            except BlockingIOError:
                await asyncio.sleep(_READ_INTERVAL)
                continue
            if not piece:
                raise ConnectionResetError
            text += piece
            count, _, script = text.partition(b"\n")
            if script.count(b"\n") >= int(count):
                words = shlex.split(script.partition(b"\n")[0].decode())[3:]
                return ["download", *words[1:]] if b"primepods_download" in script else words

    async def _act(self, action: str, name: str = "", *words: str) -> int:
        jobs = self._world.jobs.setdefault(self._pod_id, {})
        if action == "start":
            token, command, _, _, *variables = words
            if name not in jobs:
                restart = dict(word.split("=", 1) for word in variables).get("PRIMEPODS_RESTART", "0")
                jobs[name] = Job(name, token, shlex.split(command), "abcdefgh"[int(restart)])
            self._emit(1, b"own\n" if jobs[name].token == token else jobs[name].state())
        elif action == "follow" and name in jobs:
            await self._follow(jobs[name], {"stdout": int(words[0]), "stderr": int(words[1])})
        elif action == "stop" and name in jobs:
            jobs[name].stopped_at = min(now(), jobs[name].ends_at)
            self._emit(1, jobs[name].state())
        elif action == "download":
            return self._send_file(name, next(reversed(jobs.values()), None))
        elif action in {"find", "follow", "stop", "list"}:
            for job in [jobs[name]] if name in jobs else jobs.values():
                self._emit(1, job.state())
        return 0

    def _send_file(self, path: str, job: Job | None) -> int:
        """Send what the pod's last job has saved, as `download.sh` does; return its exit code."""
        if job is None or job.command[0] != "save" or job.saved() == 0:
            self._emit(2, f"{path} is not a file or folder\n".encode())
            return 1
        content, archive = str(job.saved()).encode(), io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        self._emit(1, b"file\n" + archive.getvalue())
        return 0

    async def _follow(self, job: Job, sent: dict[str, int]) -> None:
        """Send the output from an offset on, each piece after a header, until the end; then the state."""
        while True:
            has_ended = now() >= job.ends_at
            if piece := job.output(now())[sent["stdout"] :]:
                self._emit(1, f"stdout {sent['stdout']} {len(piece)}\n".encode() + piece)
                sent["stdout"] += len(piece)
            elif has_ended:
                break
            await asyncio.sleep(1.0 if job.command[0] == "print" else _LOOK_INTERVAL)
            self._check()
        self._emit(1, job.state())

    def _check(self) -> None:
        world = self._world
        if self._code is not None or world.has_no_ssh or not world.is_running(self._pod_id):
            raise ConnectionResetError

    def _emit(self, descriptor: int, data: bytes) -> None:
        self._check()
        if descriptor == 1 and self._stdout >= 0:
            os.write(self._stdout, data[: self._left])
        else:
            self._protocol.pipe_data_received(descriptor, data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            raise ConnectionResetError

    def end(self, code: int, *, is_told: bool = True) -> None:
        """End the process; unless its machine's has died, tell that."""
        if self._code is None:
            self._code = code
            os.close(self._stdin)
            if self._stdout >= 0:
                os.close(self._stdout)
            self._world.ssh.pop(self.pid, None)
            if is_told:
                self.tell()

    def tell(self) -> None:
        """Tell that the process has ended."""
        self._protocol.pipe_connection_lost(1, None)
        self._protocol.pipe_connection_lost(2, None)
        self._protocol.process_exited()
        self._ended.set()

    # What asyncio asks of a process.

    def get_pid(self) -> int:
        """Return its pid."""
        return self.pid

    def get_returncode(self) -> int | None:
        """Return its exit code, if it has ended."""
        return self._code

    def get_pipe_transport(self, fd: int) -> Any:
        """Return what reads its output, which never pauses; its input is a descriptor."""
        return self if fd else None

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = close = pause_reading

    async def _wait(self) -> int | None:
        await self._ended.wait()
        return self._code


async def start_ssh(
    machine: Machine, make: Callable[[], Any], *argv: str, stdin: int, stdout: int, **_: Any
) -> Any:
    """Start `ssh`; return its transport and protocol, as `subprocess_exec` of a loop."""
    protocol = make()
    ssh = Ssh(machine, argv, stdin, stdout, protocol)
    machine.world.ssh[ssh.pid] = ssh
    protocol.connection_made(ssh)
    machine.world.pods_host.spawn(ssh.serve)
    return ssh, protocol


class RunProcess:
    """The process of a detached run, as `subprocess.Popen` starts it: a machine of its own, with this folder.

    Args:
        parent: Where it is started.
        argv: Its arguments.
        pass_fds: The lock that it inherits.
    """

    def __init__(self, parent: Machine, argv: list[str], *, pass_fds: list[int], **_: Any) -> None:
        self.machine: Machine = parent.process()
        self.pid: int = self.machine.pid
        self.stdin: io.BytesIO = io.BytesIO()
        self.returncode: int | None = None
        run = find_run(argv[-1])
        lock = os.dup(pass_fds[0])
        parent.world.locks[lock] = self.machine
        run.inherit(lock)
        # A real process reads the record later, when its parent has written this.
        run.record = attrs.evolve(run.record, pid=self.pid)
        self.machine.hold(run)

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        if self.machine.has_ended:
            self.returncode = 0
        return self.returncode
