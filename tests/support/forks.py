"""Programs that are forks of one process, which has imported what they share: an import can take seconds.

python tests/support/forks.py SOCKET MODULE…    serves
"""

import ctypes
import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PR_SET_PDEATHSIG: Final = 1
_CLIENT: Final = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    order = json.dumps([False, os.getcwd(), dict(os.environ), sys.argv[2:]]).encode()
    socket.send_fds(server, [b"%8d" % len(order)], [0, 1, 2])
    server.sendall(order)
    server.recv(9)
    sys.exit(int(server.recv(9) or 255))
"""


class Fork:
    """A program of a fork server.

    Args:
        connection: A descriptor that gives its id, and then its exit code. A socket that is garbage with its
            owner would warn.
        log: The file with its output.

    Attributes:
        pid: Its id, which is that of its session, too.
    """

    def __init__(self, connection: int, log: Path) -> None:
        self._connection = connection
        self.pid = int(os.read(connection, 9))
        self.log = log

    def wait(self, timeout: float = 250.0) -> None:
        """Return when it has ended."""
        if not select.select([self._connection], [], [], timeout)[0]:
            self.stop(signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s: {self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and return when it has ended."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        self.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return not select.select([self._connection], [], [], 0)[0]

    def __del__(self) -> None:
        os.close(self._connection)


class ForkServer:
    """A process that has imported modules, and whose forks run modules, or blocks of papers.

    Args:
        folder: For its socket.
        modules: What it imports.
        environment: Its environment, to which programs started by `run` can add.
    """

    def __init__(self, folder: Path, modules: Iterable[str], environment: Mapping[str, str]) -> None:
        self._socket = folder / "forks"
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._socket, *modules],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) != b"serves\n":
            assert line, "it has not started"

    def run(
        self, module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> Fork:
        """Start a module as a program; its output goes to a file, in whose folder it runs."""
        order = json.dumps([True, str(log.parent), dict(environment or {}), [module, *arguments]]).encode()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._socket))
        with Path(os.devnull).open() as nothing, log.open("a") as output:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(connection, [b"%8d" % len(order)], files)
        connection.sendall(order)
        return Fork(connection.detach(), log)

    def argv(self, *words: str) -> list[str]:
        """Return what runs a module, or a block in a file, with its arguments, for shells."""
        return [sys.executable, "-I", "-S", "-c", _CLIENT, str(self._socket), *words]

    def script(self, module: str) -> str:
        """Return a program that runs a module with its arguments."""
        return f'#!/bin/sh\nexec {shlex.join(self.argv(module))} "$@"\n'

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def end_with_parent() -> None:
    """Have the system kill this process when its parent has ended, even if that was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(address: str, modules: Iterable[str]) -> None:
    """Import what all need, and then run each order in a fork."""
    end_with_parent()
    for module in modules:
        with suppress(ImportError):  # of an extra
            import_module(module)
    from tests.readme_blocks import run_python

    # What is shared stays shared: no garbage collection of a fork touches it.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"serves\n")
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                break
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    end_with_parent()
    with connection:
        size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as stream:
            has_session, folder, environment, words = json.loads(stream.read(int(size)))
        if pid := os.fork():
            connection.sendall(b"%9d" % pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with suppress(OSError):  # nobody waits for it
                connection.sendall(b"%d" % code)
            os._exit(0)
    end_with_parent()
    if has_session:
        os.setsid()
    else:
        # Not always: setproctitle, which names the workers of Airflow, finds its place by the first variable.
        os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # what the environment says
    for number, (descriptor, name) in enumerate(zip(descriptors, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(descriptor, number)
        os.close(descriptor)
        # Anew, since they know whether their files can seek.
        setattr(sys, name, os.fdopen(number, "w" if number else "r", 1, closefd=False))
    sys.argv = list(words)
    if words[0].endswith(".py"):
        run_python(Path(words[0]))
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    serve(sys.argv[1], sys.argv[2:])
