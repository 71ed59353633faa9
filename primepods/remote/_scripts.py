"""Build the scripts that run on a pod, from the files in the folder ``scripts`` and their arguments.

They need a POSIX shell and common utilities, such as ``dd``, ``grep`` and ``head``. Copies also need
``tar``, and uploads also need ``find``. The command line of ``ssh`` is only the bootstrap, so that no process
list of this machine shows a secret. The bootstrap prints a mark, and then reads a script from its standard
input. Before the mark, no script has run, so the login may be repeated.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from .._utils.arguments import check_string, check_strings
from .._utils.text import quote

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def bootstrap(mark: str) -> str:
    """Return the command line of the bootstrap, for the pod's login shell."""
    return f"exec {shlex.join(['sh', '-c', _read_line('bootstrap.sh'), 'primepods', mark])}"


def command_script(
    command: str | Sequence[str], *, env: Mapping[str, str], cwd: str | None, input_size: int | None = None
) -> bytes:
    """Return the script that runs a command. With ``input_size``, that many bytes of input must follow it.

    Raises:
        TypeError: The command is not a string or a sequence of strings, or another argument is not a string.
        ValueError: The command is empty or contains a NUL, or a folder or variable is invalid. The message
            does not show the value of a variable.
    """
    folder = "." if cwd is None else remote_path("cwd", cwd)
    line = command_line(command)
    size = "" if input_size is None else str(input_size)
    return make_script("run.sh", folder, line, size, *variables(env))


def command_line(command: str | Sequence[str]) -> str:
    """Return a command as a line for the shell.

    Raises:
        TypeError: The command is neither a string nor a sequence of strings.
        ValueError: The command is empty or contains a NUL.
    """
    line = command if isinstance(command, str) else shlex.join(check_strings("command", command))
    if not line.strip():
        raise ValueError("command is empty")
    if "\0" in line:
        raise ValueError(f"command must not contain a NUL, got {quote(command)}")
    return line


def upload_script(remote: str, *, kind: str, name: str) -> bytes:
    """Return the script that unpacks a ``tar`` archive from its standard input.

    Args:
        remote: The target. A file goes into it if it ends with a slash.
        kind: ``"file"`` or ``"folder"``.
        name: The file's name, if the target is a folder.
    """
    target = remote_path("remote", remote)
    if kind == "file" and target.endswith("/"):
        target += name
    return make_script("upload.sh", kind, target.rstrip("/") or "/", name)


def download_script(*paths: str, since: str = "") -> bytes:
    """Return the script that packs the first path that exists; for its errors see :func:`remote_path`.

    Args:
        paths: The paths on the pod.
        since: File in the home folder; only files that changed after it are packed, with GNU's tar.
    """
    targets = [remote_path("remote", path).rstrip("/") or "/" for path in paths]
    return make_script("download.sh", since, *targets)


def remote_path(name: str, path: str) -> str:
    """Return a path for use in a script: absolute, or relative to the home directory with the prefix ``./``.

    Raises:
        TypeError: The path is not a string.
        ValueError: The path is empty or contains a NUL.
    """
    if not check_string(name, path) or "\0" in path:
        raise ValueError(f"{name} must be a path on the pod, got {quote(path)}")
    if path == "~" or path.startswith("~/"):
        path = path[1:].lstrip("/") or "."
    return path if path.startswith("/") else f"./{path}"


def variables(env: Mapping[str, str]) -> list[str]:
    """Return the script that gives a command its variables, and the variables as NAME=VALUE.

    Raises:
        TypeError: A name or a value is not a string.
        ValueError: A name or a value is invalid. The message shows no value.
    """
    for name, value in env.items():
        if not _VARIABLE.fullmatch(check_string("a name in env", name)):
            raise ValueError(
                f"env has {quote(name)}: names of variables consist of letters, digits and _, and do not "
                "begin with a digit"
            )
        if not isinstance(value, str):
            raise TypeError(f"env[{name!r}] must be a string, not {type(value).__name__}")
        if "\0" in value:
            raise ValueError(f"env[{name!r}] contains a NUL, which a variable cannot hold")
    return [_read_line("command.sh"), *(f"{name}={value}" for name, value in env.items())]


def make_script(file: str, *arguments: str) -> bytes:
    """Return a script with its arguments, after a line with its number of lines; see ``bootstrap.sh``."""
    script = f'set -- "$1" {shlex.join(arguments)}\n{_read(file)}'
    return f"{script.count(chr(10))}\n{script}".encode(errors="surrogateescape")


def _read_line(file: str) -> str:
    """Return a script as one line; its commands must end with semicolons."""
    return " ".join(_read(file).splitlines())


@cache
def _read(file: str) -> str:
    """Return a script without lines that are only comments, before it is sent."""
    from importlib.resources import files

    lines = (
        files(__name__.rpartition(".")[0]).joinpath("scripts", file).read_text(encoding="utf-8").splitlines()
    )
    return "".join(f"{line}\n" for line in lines if not line.lstrip().startswith("#"))


GPU_CHECK: Final = _read("gpu_check.sh")
"""A ``check`` for ``pods.lease``: each ordered GPU responds to ``nvidia-smi``, without uncorrectable errors.

It passes on an image without ``nvidia-smi``, with a warning in the log.
"""
