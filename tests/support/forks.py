"""Python blocks of papers, and the command, in forks of one process: a start takes half a second.

python tests/support/forks.py SOCKET    serves

What is started is a command line, for shells; `fork_server` starts programs to which tests send signals.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_CLIENT: Final = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    order = json.dumps([os.getcwd(), dict(os.environ), sys.argv[2:]]).encode()
    socket.send_fds(server, [b"%8d" % len(order)], [0, 1, 2])
    server.sendall(order)
    sys.exit(int(server.recv(9) or 255))
"""


class Forks:
    """A process whose forks run Python files and the command ``primepods``.

    Args:
        folder: For its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "socket"
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._socket],
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serves\n"

    def argv(self, *words: str) -> list[str]:
        """Return what runs a Python file, or ``primepods``, with its arguments."""
        return [sys.executable, "-I", "-S", "-c", _CLIENT, str(self._socket), *words]

    def script(self) -> str:
        """Return a program that runs ``primepods`` with its arguments."""
        return f'#!/bin/sh\nexec {shlex.join(self.argv("primepods"))} "$@"\n'

    def end(self) -> None:
        """End it, and what it runs."""
        os.killpg(self._process.pid, signal.SIGKILL)
        with self._process:
            pass


def serve(address: str) -> None:
    """Import what all need, and then run each order in a fork."""
    import primepods.cli
    from tests.readme_blocks import run_python

    for name in dir(primepods):
        getattr(primepods, name)
    for module in pkgutil.iter_modules(primepods.cli.__path__, "primepods.cli."):
        with suppress(ImportError):  # of an extra
            importlib.import_module(module.name)
    gc.freeze()  # or each fork would copy all of it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("serves\n")
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                break
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with connection:
        size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as stream:
            folder, environment, words = json.loads(stream.read(int(size)))
        if pid := os.fork():
            connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os._exit(0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, (descriptor, name) in enumerate(zip(descriptors, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(descriptor, number)
        os.close(descriptor)
        # Anew, since they know whether their files can seek.
        setattr(sys, name, os.fdopen(number, "w" if number else "r", 1, closefd=False))
    sys.argv = words
    if words[0] == "primepods":
        primepods.cli.main()
    else:
        run_python(Path(words[0]))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    serve(sys.argv[1])
