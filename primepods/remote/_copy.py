"""Uploads and downloads of files and folders."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import anyio

from .._utils.arguments import check_callable, check_string
from .._utils.text import clip, one_line, quote
from ..errors import ConnectionLostError, TransferError
from ._exchange import ReadOutput, call_back, exchange, unwrap_first_error
from ._exclude import Exclusion
from ._login import Login
from ._output import Tail
from ._pack import Progress, pack
from ._place import check_target, create_staging, place
from ._scripts import download_script, upload_script
from ._session import Session, Sink, drop, in_thread
from ._tar_reader import CutShortError
from ._unpack import unpack_file, unpack_folder
from .results import OnProgress, Stream

_CHUNK_SIZE: Final = 64 * 1024
_MAX_MESSAGE_LENGTH: Final = 1_000
_MAX_SHOWN: Final = 20
"""Max members named in a message."""
_PROGRESS_INTERVAL: Final = 0.2
_CHANGED_MESSAGE: Final = "file changed as we read it"
"""Message of GNU's ``tar`` for a file that changed, but did not shrink, while it was read.

The archive is then complete.
"""
_CHANGED_EXIT_CODE: Final = 1
"""Exit code of GNU's ``tar`` with that message."""


class _Copy:
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
        sinks: dict[Stream, Sink] = {"stderr": self._stderr.add}
        if session.raw_stdout is None:
            sinks["stdout"] = drop
        on_progress = self._on_progress or bool

        async def report() -> None:
            while True:
                await anyio.sleep(_PROGRESS_INTERVAL)
                await call_back(on_progress, self._progress.done)

        with unwrap_first_error():
            async with anyio.create_task_group() as group:
                group.start_soon(report)
                await exchange(session, script, write, sinks, read_output)
                group.cancel_scope.cancel()
        await call_back(on_progress, self._progress.done)

    def _check(self, exit_code: int | None, pod_id: str) -> None:
        """Raise an error unless the script succeeded, or ``tar`` reported only changed files."""
        stderr = self._stderr.text()
        message = clip(one_line(stderr), _MAX_MESSAGE_LENGTH)
        failure = f"Could not copy {self._description} (pod {pod_id})"
        if exit_code is None:
            raise ConnectionLostError(
                f"{failure}: the connection was lost after {self._progress.done:,} bytes. Unless the pod "
                f"restarted, the target is unchanged or has the whole copy. {message}".rstrip(),
                pod_id=pod_id,
                stderr=stderr,
            )
        has_only_changed = stderr and all(_CHANGED_MESSAGE in line for line in stderr.splitlines())
        if exit_code and not (exit_code == _CHANGED_EXIT_CODE and has_only_changed):
            raise TransferError(f"{failure}. Message of the pod: {message or f'exit code {exit_code}'}")


class Upload(_Copy):
    """Copy to a pod; the constructor checks the arguments. See :meth:`AsyncRemote.upload`."""

    def __init__(
        self,
        local: str | os.PathLike[str],
        remote: str,
        exclude: Iterable[str],
        on_progress: OnProgress | None,
    ) -> None:
        super().__init__(f"{os.fspath(local)} to {check_string('remote', remote)}", on_progress)
        self._exclusion = exclude if isinstance(exclude, Exclusion) else Exclusion(exclude)
        path = _local_path(local)
        self._source = path.resolve(strict=True)
        kind = "folder" if self._source.is_dir() else "file"
        if kind == "file" and not self._source.is_file():
            raise TransferError(
                f"{os.fspath(local)} is neither a file nor a folder. Only these can be copied."
            )
        # Use the name of a link, not that of its target.
        self._script = upload_script(remote, kind=kind, name=path.name)
        self._is_sent = False

    async def run(self, login: Login) -> None:
        """Run the copy; for its errors see :meth:`AsyncRemote.upload`."""
        async with login.session() as session:
            await self._exchange(session, self._script, self._pack)
        self._check(session.stderr.exit_code, login.pod_id)
        if not self._is_sent:
            raise TransferError(f"Could not copy {self._description}: the pod did not read all of it.")

    def _pack(self, stdin: BinaryIO) -> None:
        pack(self._source, self._exclusion, self._progress, stdin)
        stdin.flush()
        self._is_sent = True


class Download(_Copy):
    """Copy from a pod; the constructor checks the arguments. See :meth:`AsyncRemote.download`."""

    def __init__(
        self,
        paths: Sequence[str],
        local: str | os.PathLike[str],
        on_progress: OnProgress | None,
        since: str = "",
    ) -> None:
        # The first path that exists is copied. All have the same name.
        remote = check_string("remote", paths[-1])
        super().__init__(f"{remote} to {os.fspath(local)}", on_progress)
        self._script = download_script(*paths, since=since)
        self._name = posixpath.basename(remote.rstrip("/"))
        self._target = _local_path(local).absolute()
        check_target(self._target)
        self._is_target_folder = os.fspath(local).endswith(("/", os.sep)) or self._target.is_dir()
        self._folder: Path | None = None
        """The temporary folder, once the archive has begun."""
        self._lock = -1
        self._is_cut_short = False
        self._left_out: list[str] = []

    async def run(self, login: Login) -> None:
        """Run the copy; for its errors see :meth:`AsyncRemote.download`."""
        try:
            async with login.session(has_raw_stdout=True) as session:
                await self._exchange(
                    session,
                    self._script,
                    lambda _: None,  # no input: `send` then closes the standard input
                    read_output=lambda: in_thread(self._receive, session),
                )
            self._check(session.stderr.exit_code, login.pod_id)
            if self._folder is None or self._is_cut_short:
                raise TransferError(
                    f"Could not copy {self._description} (pod {login.pod_id}): the pod's archive ended early."
                )
            await in_thread(place, self._folder / "data", self._target)
            if self._left_out:
                names = clip(", ".join(self._left_out[:_MAX_SHOWN]), _MAX_MESSAGE_LENGTH)
                raise TransferError(
                    f"Copied {self._description} (pod {login.pod_id}), except links that point outside the "
                    f"folder, pipes and devices ({len(self._left_out):,}): {names}"
                )
        finally:
            if self._folder is not None:
                with anyio.CancelScope(shield=True):
                    await in_thread(shutil.rmtree, self._folder, ignore_errors=True)
                if self._lock >= 0:
                    os.close(self._lock)

    def _receive(self, session: Session) -> None:
        """Unpack the pod's archive; runs in a thread."""
        stream = session.raw_stdout
        if stream is None:
            raise TypeError("the session was not started with has_raw_stdout=True")
        ready = f"{session.mark} ready\n".encode()
        # Skip the output of the login before the mark.
        end = b""
        while end != ready and (piece := stream.readline(_CHUNK_SIZE)):
            end = (end + piece)[-len(ready) :]
        kind = stream.readline(len(b"folder\n"))
        if kind not in {b"folder\n", b"file\n"}:
            # After a failure of the script or the connection, less output follows; `run` reports the cause.
            if len(stream.read(_CHUNK_SIZE)) == _CHUNK_SIZE:
                raise TransferError(f"Could not copy {self._description}: the pod sent no archive.")
            return
        self._folder, self._lock = create_staging(self._target)
        if kind == b"file\n" and self._is_target_folder:
            self._target /= self._name
        staged = self._folder / "data"
        try:
            if kind == b"folder\n":
                staged.mkdir()
                self._left_out = unpack_folder(stream, staged, self._target, self._progress)
            else:
                unpack_file(stream, staged, self._target, self._progress)
        except CutShortError:
            # A lost connection or an error of `tar` may be the cause: `run` checks for these first.
            self._is_cut_short = True


def _local_path(local: str | os.PathLike[str]) -> Path:
    # An empty path would mean the current folder.
    if not os.fspath(local) or "\0" in os.fspath(local):
        raise ValueError(f"local must be a path, got {quote(local)}")
    return Path(local)
