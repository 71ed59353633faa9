"""Pack local files for a pod into a ``tar`` stream. All functions block."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from ..errors import TransferError
from ._exclude import Exclusion
from .results import UploadSize

OWNER_MODES: Final = 0o700
"""Owner permissions that each folder gets, so that it can be filled and renamed."""


@attrs.define
class Progress:
    """Progress of a copy, counted in the copying thread and read in the event loop.

    Attributes:
        done: Bytes of file content copied so far.
    """

    done: int = 0


def measure(source: Path, exclusion: Exclusion) -> UploadSize:
    """Return the size of an upload.

    Raises:
        OSError: The source does not exist, or a folder cannot be listed.
    """
    found = [status for _, _, status in _walk(source, "", exclusion) if not stat.S_ISDIR(status.st_mode)]
    sizes = (status.st_size for status in found if stat.S_ISREG(status.st_mode))
    return UploadSize(files=len(found), bytes=sum(sizes))


def pack(source: Path, exclusion: Exclusion, progress: Progress, stream: BinaryIO) -> None:
    """Write an archive with a file or folder as member ``data``, and an empty last member ``end``.

    ``end`` shows the pod that the archive is complete. Links in a folder stay links. Sockets, pipes and
    devices are left out.

    Raises:
        TransferError: A file shrank or became another kind of file while it was read, or its size is unknown.
        OSError: A file cannot be read, or the reader is gone.
    """
    # This format allows names of any bytes; GNU, BSD and BusyBox `tar` read it.
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for path, name, status in _walk(source, "", exclusion):
            _add(archive, path, f"data/{name}".rstrip("/"), status, progress)
            # `tarfile` adds every member to a list, which would grow with the folder.
            archive.getmembers().clear()
        archive.addfile(tarfile.TarInfo("end"))


def _walk(path: Path, name: str, exclusion: Exclusion) -> Iterator[tuple[Path, str, os.stat_result]]:
    """Yield the path, the path relative to the source, and the status of each file, link and folder to pack.

    The source's own relative path is empty. A folder comes after its content: BusyBox's ``tar`` sets the
    folder's time at once, and a file that is extracted later would change it.
    """
    status = path.lstat()
    is_folder = stat.S_ISDIR(status.st_mode)
    if name and exclusion.matches(name, is_folder=is_folder):
        return
    if is_folder:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            yield from _walk(path / entry.name, f"{name}/{entry.name}".lstrip("/"), exclusion)
    if is_folder or stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        yield path, name, status


def _add(archive: tarfile.TarFile, path: Path, name: str, status: os.stat_result, progress: Progress) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = tarfile.DIRTYPE if stat.S_ISDIR(status.st_mode) else tarfile.SYMTYPE
        member = _checked_member(archive.gettarinfo(path, name), path, kind)
        if member.isdir():
            member.mode |= OWNER_MODES
        archive.addfile(member)
        return
    # Open the file first, and take the type of the open file: a link or a pipe may have replaced the file.
    with open(path, "rb", opener=_open_file) as file:
        member = archive.gettarinfo(arcname=name, fileobj=file)
        member = _checked_member(member, path, tarfile.REGTYPE, tarfile.LNKTYPE)
        if member.isreg() and not member.size and file.read(1):
            problem = f"The size of {path} is unknown, as for files in /proc"
            raise TransferError(f"{problem}: copy it to another file.")
        archive.addfile(member, _CountingFile(file, path, progress))


def _open_file(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _checked_member(member: tarfile.TarInfo | None, path: Path, *types: bytes) -> tarfile.TarInfo:
    """Return a member without its owner; raise an error if it has none of these types."""
    # `gettarinfo` returns `None` for a socket, although its annotation does not say so.
    if member is None or member.type not in types:
        raise TransferError(f"{path} was replaced while it was read: copy it again.")
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class _CountingFile:
    """File that counts the bytes read from it, and raises an error at an early end."""

    def __init__(self, file: BinaryIO, path: Path, progress: Progress) -> None:
        self._file = file
        self._path = path
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise TransferError(f"{self._path} became shorter while it was read: copy it again.")
        self._progress.done += len(data)
        return data
