"""Uploads and downloads of files and folders."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import anyio

from .._utils.arguments import check_callable, check_string
from .._utils.text import clip, one_line
from ..errors import ConnectionLostError, TransferError
from ._archive import Progress, create_staging, move_into_place, pack, unpack
from ._exchange import ReadOutput, call_back, exchange, unwrap_first_error
from ._exclude import Exclusion
from ._login import Login
from ._output import Tail
from ._scripts import download_script, upload_script
from ._session import Session, Sink, drop, in_thread
from .results import OnProgress, Stream

_CHUNK_SIZE: Final = 64 * 1024
_MAX_MESSAGE_LENGTH: Final = 1_000
_PROGRESS_INTERVAL: Final = 0.2
_CHANGED_MESSAGE: Final = "file changed as we read it"
"""Message of GNU's ``tar`` for a file that grew while it was read; the archive is complete."""
_CHANGED_EXIT_CODE: Final = 1
"""Exit code of GNU's ``tar`` with that message."""


class _Copy:
    """Base class of uploads and downloads."""

    def __init__(self, description: str, on_progress: OnProgress | None) -> None:
        if on_progress is not None:
            check_callable("on_progress", on_progress)
        self._description = description
        self._on_progress = on_progress
        self._progress = Progress()
        self._stderr = Tail(_CHUNK_SIZE)

    async def _exchange(
        self,
        session: Session,
        script: bytes,
        write: Callable[[BinaryIO], object],
        read_output: ReadOutput | None = None,
    ) -> None:
        """Run the script until it ends or the connection is lost; report progress meanwhile."""
        sinks: dict[Stream, Sink] = {"stderr": self._add_stderr}
        if session.raw_stdout is None:
            sinks["stdout"] = drop
        with unwrap_first_error():
            async with anyio.create_task_group() as group:
                group.start_soon(self._report)
                await exchange(session, script, write, sinks, read_output)
                group.cancel_scope.cancel()

    async def _add_stderr(self, piece: bytes) -> None:
        self._stderr.add(piece)

    async def _report(self) -> None:
        while self._on_progress is not None:
            await anyio.sleep(_PROGRESS_INTERVAL)
            await call_back(self._on_progress, self._progress.done)

    def _check(self, exit_code: int | None, pod_id: str) -> None:
        """Raise an error unless the script on the pod succeeded."""
        stderr = self._stderr.text()
        message = clip(one_line(stderr), _MAX_MESSAGE_LENGTH)
        failure = f"Could not copy {self._description} (pod {pod_id})"
        if exit_code is None:
            raise ConnectionLostError(
                f"{failure}: the connection was lost after {self._progress.done:,} bytes. The target is "
                f"unchanged. {message}".rstrip(),
                pod_id=pod_id,
                stderr=stderr,
            )
        if exit_code == _CHANGED_EXIT_CODE and stderr:
            is_complete = all(_CHANGED_MESSAGE in line for line in stderr.splitlines())
        else:
            is_complete = exit_code == 0
        if not is_complete:
            raise TransferError(f"{failure}. Message of the pod: {message or f'exit code {exit_code}'}")


class Upload(_Copy):
    """Copy to a pod; checks its arguments before anything is sent. See :meth:`AsyncRemote.upload`."""

    def __init__(
        self,
        local: str | os.PathLike[str],
        remote: str,
        exclude: Iterable[str],
        on_progress: OnProgress | None,
    ) -> None:
        super().__init__(f"{os.fspath(local)} to {check_string('remote', remote)}", on_progress)
        self._exclusion = Exclusion(exclude)
        self._source = _local_path(local).resolve(strict=True)
        kind = "folder" if self._source.is_dir() else "file"
        if kind == "file" and not self._source.is_file():
            raise TransferError(
                f"{os.fspath(local)} is neither a file nor a folder. Only these can be copied."
            )
        self._script = upload_script(remote, kind=kind, name=self._source.name)

    async def run(self, login: Login) -> None:
        """Run the copy.

        Raises:
            PrimePodsError: See :meth:`AsyncRemote.upload`.
            OSError: A file cannot be read here.
        """
        write = partial(pack, self._source, self._exclusion, self._progress)
        async with login.session() as session:
            await self._exchange(session, self._script, write)
        self._check(session.stderr.exit_code, login.pod_id)


class Download(_Copy):
    """Copy from a pod; checks its arguments before anything is sent. See :meth:`AsyncRemote.download`."""

    def __init__(self, remote: str, local: str | os.PathLike[str], on_progress: OnProgress | None) -> None:
        super().__init__(f"{check_string('remote', remote)} to {os.fspath(local)}", on_progress)
        self._script = download_script(remote)
        self._name = posixpath.basename(remote.rstrip("/"))
        self._target = _local_path(local).absolute()
        self._is_target_folder = os.fspath(local).endswith(("/", os.sep))
        self._is_source_folder = False
        self._archive_error: Exception | None = None
        self._left_out: list[str] = []

    async def run(self, login: Login) -> None:
        """Run the copy.

        Raises:
            PrimePodsError: See :meth:`AsyncRemote.download`.
            OSError: A file cannot be written here.
        """
        folder = await in_thread(create_staging, self._target, is_target_folder=self._is_target_folder)
        staged = folder / "data"
        try:
            async with login.session(has_raw_stdout=True) as session:
                await self._exchange(
                    session,
                    self._script,
                    _write_nothing,
                    read_output=lambda: in_thread(self._receive, session, staged),
                )
            self._check(session.stderr.exit_code, login.pod_id)
            if self._archive_error is not None:
                raise TransferError(
                    f"Could not copy {self._description}: the pod's archive is invalid: {self._archive_error}"
                )
            await in_thread(self._move_into_place, staged)
            if self._left_out:
                names = clip(", ".join(self._left_out), _MAX_MESSAGE_LENGTH)
                raise TransferError(
                    f"Copied {self._description} (pod {login.pod_id}), except links that leave the folder, "
                    f"pipes and devices ({len(self._left_out):,}): {names}"
                )
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(shutil.rmtree, folder, ignore_errors=True)

    def _receive(self, session: Session, staged: Path) -> None:
        """Unpack the pod's archive, in a thread."""
        stream = session.raw_stdout
        if stream is None:
            raise TypeError("the session was not started with has_raw_stdout=True")
        ready = f"{session.mark} ready\n".encode()
        # Skip the output of the login before the mark.
        line = stream.readline()
        while line and not line.endswith(ready):
            line = stream.readline()
        kind = stream.readline()
        self._is_source_folder = kind == b"folder\n"
        if self._is_source_folder or kind == b"file\n":
            staged.mkdir()
            try:
                self._left_out = unpack(stream, staged, self._progress)
            except (tarfile.TarError, ValueError, OverflowError) as exc:
                # A lost connection also cuts the archive: `run` checks for that first.
                self._archive_error = exc
        # Read the rest: while nobody reads, the script on the pod cannot end.
        while stream.read(_CHUNK_SIZE):
            pass

    def _move_into_place(self, staged: Path) -> None:
        if self._is_source_folder:
            move_into_place(staged, self._target)
            return
        [file] = staged.iterdir()
        # If the path ends with a slash, `create_staging` has created the folder.
        is_into_folder = self._target.is_dir()
        move_into_place(file, self._target / self._name if is_into_folder else self._target)


def _local_path(local: str | os.PathLike[str]) -> Path:
    """Return a local path.

    Raises:
        ValueError: The path is empty, which would mean the current folder.
    """
    if not os.fspath(local):
        raise ValueError("local must be a path, got '', which is empty")
    return Path(local)


def _write_nothing(stdin: BinaryIO) -> None:
    """Write nothing, since the script reads no input.

    A writer is needed all the same: :meth:`Session.send` closes the standard input only after one.
    """
    stdin.flush()
