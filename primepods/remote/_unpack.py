"""Unpack a pod's archive into a temporary folder. All functions block."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path, PurePath
from tarfile import TarInfo
from typing import BinaryIO, Final

from .._utils.text import clip
from ..errors import TransferError
from ._pack import OWNER_MODES, Progress
from ._tar_reader import ArchiveReader

_KEPT_MODES: Final = 0o755
"""Bits of the modes on the pod that a download keeps: no write permission for group and others."""
_MAX_DEPTH: Final = 250
_MAX_NAMES: Final = 64 << 20
"""Max total length of the names of folders and links, which are kept until all files are written."""
_ERRORS_OF_NAMES: Final = {
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.EILSEQ,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}
"""Errors that the names in an archive may cause."""


def unpack_file(stream: BinaryIO, path: Path, target: Path, progress: Progress) -> None:
    """Unpack an archive that holds one regular file. Messages name ``target``, its final path.

    Raises:
        TransferError: The archive is incomplete, or holds something other than one regular file.
        OSError: The file cannot be written.
    """
    count = 0
    for member, content in ArchiveReader(stream).members():
        count += 1
        if not member.isreg() or count > 1:
            raise TransferError("The pod sent something other than one file. Nothing was changed.")
        with _storing("", target):
            _write(member, content, path, progress)
    if not count:
        raise TransferError("The pod sent no file. Nothing was changed.")


def unpack_folder(stream: BinaryIO, folder: Path, target: Path, progress: Progress) -> list[str]:
    """Unpack an archive into an empty folder.

    Symbolic links are created last, so that nothing is written through one. Messages name ``target``, the
    folder's final path.

    Returns:
        Descriptions of the members that were left out. These are pipes, devices, and links that are absolute
        or may lead out of the folder.

    Raises:
        TransferError: The archive is incomplete, or a member cannot be stored or is outside the folder.
        OSError: A file cannot be written.
    """
    links: dict[str, str] = {}
    """Target of each symbolic link; empty for a pipe or device."""
    times: dict[str, float] = {}
    names_length = 0
    for member, content in ArchiveReader(stream).members():
        name = _checked_path(member.name)
        path = folder / name
        if not member.isreg():
            names_length += len(name) + len(member.linkname)
            if names_length > _MAX_NAMES:
                raise TransferError("The pod sent too many folders and links. Nothing was changed.")
        with _storing(name, target):
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                path.mkdir(exist_ok=True)
                path.chmod((member.mode & _KEPT_MODES) | OWNER_MODES)
                times[name] = member.mtime
            elif member.isreg():
                _write(member, content, path, progress)
            elif not member.islnk():
                links[name] = member.linkname if member.issym() else ""
            elif (source := _checked_path(member.linkname)) in links:
                links[name] = links[source]
            else:
                _link(folder / source, path)
    inside = {name: text for name, text in links.items() if _stays_inside(name, text)}
    for name, text in inside.items():
        with _storing(name, target):
            (folder / name).symlink_to(text)
    for name, time in times.items():
        os.utime(folder / name, (time, time))
    outside = ((name, text) for name, text in links.items() if name not in inside)
    return [f"{name!r} -> {text!r}" if text else repr(name) for name, text in outside]


def _write(member: TarInfo, content: Iterator[bytes], path: Path, progress: Progress) -> None:
    with path.open("xb") as file:
        for chunk in content:
            file.write(chunk)
            progress.done += len(chunk)
    path.chmod(member.mode & _KEPT_MODES)
    os.utime(path, (member.mtime, member.mtime))


def _link(source: Path, path: Path) -> None:
    """Create a hard link to a file of the archive, or a copy if linking fails."""
    if not source.is_file():
        raise TransferError(f"The pod sent a link to {source.name!r}, which it did not send before.")
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        shutil.copy2(source, path)


@contextmanager
def _storing(name: str, target: Path) -> Generator[None]:
    """Convert an ``OSError`` to a ``TransferError`` if the name may be its cause; else name the target."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _ERRORS_OF_NAMES:
            raise TransferError(
                f"The pod sent {name!r}, which cannot be stored here: {exc.strerror}. Nothing was changed."
            ) from None
        raise OSError(exc.errno, exc.strerror, str(target / name)) from None


def _checked_path(name: str) -> str:
    """Return the normalised path of a member.

    Raises:
        TransferError: The path is outside the folder, or is not valid.
    """
    # On Windows, a name may also have a drive and backslashes.
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise TransferError(f"The pod sent {name!r}, which is outside the folder. Nothing was changed.")
    if "\0" in name or len(path.parts) > _MAX_DEPTH:
        raise TransferError(
            f"The pod sent {clip(name, 100)!r}, which is not a valid path here. Nothing was changed."
        )
    return path.as_posix()


def _stays_inside(name: str, target: str) -> bool:
    """Return whether a link stays in the folder; ``..`` is allowed only at the start of its target."""
    parts = PurePath(target).parts
    if not target or PurePath(target).anchor or "\0" in target:
        return False
    levels_up = len(list(takewhile(lambda part: part == "..", parts)))
    return ".." not in parts[levels_up:] and levels_up <= name.count("/")
