"""Machines of emulated pods: home folders that `local_ssh` creates, and the processes in them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from primepods.emulator import Emulator

SSH_COMMAND = shlex.join([sys.executable, "-m", "primepods.emulator.local_ssh"])
_INTERVAL = 0.5
_MAX_SCANS = 20
"""Max searches for the processes of a pod: they may start others during a search."""


class Machines:
    """Context manager that ends the processes of pods that are gone, and deletes their homes.

    At the end of the block, it does so for all pods. The block gets a command to use instead of ``ssh``;
    that command creates the homes.

    Args:
        emulator: The emulator.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="primepods-machines", daemon=True)

    def __enter__(self) -> str:
        self._folder = Path(tempfile.mkdtemp(prefix="primepods-pods-"))
        self._thread.start()
        return f"{SSH_COMMAND} --homes {shlex.quote(str(self._folder))}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        _end(self._homes())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _homes(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL):
            # List the homes before the pods: otherwise, the home of a new pod would seem to have no pod.
            if homes := self._homes():
                pods = map(self._emulator.pods.get, self._emulator.pods)
                hosts = {host for pod in pods if pod is not None for host in pod.addresses}
                _end(home for home in homes if home.name not in hosts)


def _end(homes: Iterable[Path]) -> None:
    for home in homes:
        _end_processes(home)
        shutil.rmtree(home, ignore_errors=True)


def _end_processes(home: Path) -> None:
    """Kill the processes whose HOME is this folder, if the system has ``/proc``."""
    wanted = b"\0HOME=" + os.fsencode(home) + b"\0"
    for _ in range(_MAX_SCANS):
        is_found = False
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted in b"\0" + file.read_bytes():
                    os.kill(int(file.parent.name), signal.SIGKILL)
                    is_found = True
        if not is_found:
            return
