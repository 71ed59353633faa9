"""``python -m primepods.emulator.local_ssh``: a program to use instead of ``ssh`` for emulated pods.

It takes the command line of ``ssh``, and runs the remote command on this machine, in the home directory of
the pod. As with ``ssh``, the command continues if this process is killed. Options of its own come first:

- ``--homes DIR``: the folder of the home directories, by default the one for temporary files.
- ``--emulator URL``: the emulator that knows the GPUs of the pod, for ``nvidia-smi``.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from getopt import GetoptError, getopt
from pathlib import Path
from typing import NoReturn

_BIN = Path(__file__).parent / "bin"
"""Folder of the emulated ``nvidia-smi``, which hides that of this machine."""
_SSH_ERROR = 255
"""Exit code of ``ssh`` for its own errors."""
_OPTIONS = "46AaCfGgKkMNnqsTtVvXxYy" + "".join(f"{letter}:" for letter in "BbcDEeFIiJLlmOoPpQRSWw")
"""The options of ``ssh``; those with a colon have a value, in the same word or the next."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the remote command of ``argv``, the arguments of ssh, and exit with its code.

    The exit code is 255 after an error, such as an invalid argument, or if a signal ended the command.
    """
    try:
        # Options may precede and follow the target. A `--` ends only the options on its side of the target.
        options, words = getopt(
            list(sys.argv[1:] if argv is None else argv), _OPTIONS, ["homes=", "emulator="]
        )
        later_options, command = getopt(words[1:], _OPTIONS)
    except GetoptError as error:
        _fail(str(error))
    values = dict(options)
    if "-G" in values:
        raise SystemExit(0)  # ssh prints a configuration, which does not exist here
    if not command:
        _fail("expected [options] [--] user@host command")
    for name, value in (*options, *later_options):
        if name == "-L":
            _forward(value)
    target, folder = words[0], Path(values["--homes"]) if "--homes" in values else _folder()
    user, _, host = target.rpartition("@")
    home = _make_home(folder, re.sub(r"[^A-Za-z0-9.-]|^\.+$", "-", host))
    environment = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # Commands that are installed beside this Python are available on the pod.
        "PATH": f"{_BIN}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "PRIMEPODS_EMULATOR": values.get("--emulator", ""),
        "PRIMEPODS_PYTHON": sys.executable,
        "SHELL": "/bin/sh",
        "USER": user or "root",
    }
    process = subprocess.Popen(  # noqa: S603 - runs the command of the user
        ["/bin/sh", "-c", " ".join(command)], cwd=home, env=environment, start_new_session=True
    )
    signal.signal(signal.SIGTERM, _exit_at_once)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = -signal.SIGINT
    # A negative code is a signal, for which ssh exits with 255.
    raise SystemExit(code if code >= 0 else _SSH_ERROR)


def _exit_at_once(number: int, frame: object) -> NoReturn:
    """Exit like ssh on SIGTERM; the command continues."""
    del number, frame
    os._exit(_SSH_ERROR)


def disks_folder() -> Path:
    """Return the folder of all disks. Commands on pods create the subfolders of the disks that they use."""
    return _folder() / "disks"


def _folder() -> Path:
    user = "me"
    if sys.platform != "win32":
        user = str(os.getuid())
    return Path(tempfile.gettempdir(), f"primepods-local-ssh-{user}")


def _make_home(folder: Path, host: str) -> Path:
    """Create the home directory of a pod, with access for this user only, and return it."""
    for path in (folder, folder / host):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            _make_private(path)
        except OSError as error:
            _fail(f"cannot create {path}: {error.strerror}")
    return folder / host


def _make_private(folder: Path) -> None:
    """Remove the access of other users to a folder; exit if it is not a folder of this user."""
    found = folder.lstat()
    is_own = sys.platform == "win32" or found.st_uid == os.getuid()
    if not stat.S_ISDIR(found.st_mode) or not is_own:
        _fail(f"{folder} is not a folder, or belongs to another user: remove it, or set TMPDIR or --homes")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _fail(why: str) -> NoReturn:
    sys.stderr.write(f"local_ssh: {why}\n")
    raise SystemExit(_SSH_ERROR)


def _forward(text: str) -> None:
    """Start forwarding a port; ``text`` is a value of ``-L``, such as ``127.0.0.1:8000:localhost:80``."""
    problem = f"cannot forward {text!r}: write it like 8000:localhost:80"
    try:
        *address, local_port, host, port = text.split(":")
        target = host, int(port)
        if target[1] not in range(1, 65_536):
            _fail(problem)
        if local_port == port and host in {"localhost", "127.0.0.1"}:
            _fail(
                f"an emulated pod uses the ports of this machine, such as {port}: choose another local port"
            )
        listener = socket.create_server((address[0] if address else "127.0.0.1", int(local_port)))
    except (ValueError, OverflowError):
        _fail(problem)
    except OSError as error:
        _fail(f"cannot listen for {text!r}: {error.strerror}")
    threading.Thread(target=_accept, args=(listener, target), daemon=True).start()


def _accept(listener: socket.socket, address: tuple[str, int]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_relay, args=(connection, address), daemon=True).start()


def _relay(connection: socket.socket, address: tuple[str, int]) -> None:
    """Copy bytes in both directions, until both ends are closed."""
    with connection, contextlib.suppress(OSError), socket.create_connection(address) as other:
        back = threading.Thread(target=_copy, args=(other, connection), daemon=True)
        back.start()
        _copy(connection, other)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
