"""``python -m primepods.emulator.local_ssh``: takes the place of ``ssh`` where the pods are emulated.

It takes the command line of ``ssh`` and runs the remote command on this machine, in a shell with a clean
environment and in a home directory that is the pod's own, below the directory for temporary files.
"""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
"""Options of ``ssh`` that are followed by a value, in the same word or the next."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Become the remote command; ``argv`` are the words after ``ssh``.

    Raises:
        SystemExit: There is no command.
    """
    target, command = _read(list(sys.argv[1:] if argv is None else argv))
    if not target or not command:
        print("local_ssh: usage: [options] [--] user@host command", file=sys.stderr)  # noqa: T201  a command
        raise SystemExit(255)
    user, _, host = target.rpartition("@")
    home = Path(tempfile.gettempdir(), "primepods-local-ssh", re.sub("[^A-Za-z0-9.-]", "-", host))
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(home)
    environment = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # What is installed beside this package is installed on the pod.
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/sh",
        "USER": user or "root",
    }
    sys.stdout.flush()
    os.execve("/bin/sh", ["sh", "-c", command], environment)  # noqa: S606  that is what it is for


def _read(words: list[str]) -> tuple[str, str]:
    """Return the target and the command of a command line of ``ssh``."""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        if word[1:2] in _WITH_VALUE and len(word) == len("-o"):
            del words[:1]
    return (words[0] if words else "", " ".join(words[1:]))


if __name__ == "__main__":
    main()
