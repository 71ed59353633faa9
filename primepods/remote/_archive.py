"""Files and folders as a ``tar`` stream: written for a pod, read from one. What blocks runs in a thread."""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from ..errors import TransferError

_CHUNK: Final = 1 << 18
_MODES: Final = 0o755
"""What is kept of a mode that a pod sends: what others may write would be everybody's."""
_OWN: Final = 0o700
"""What the owner may do with a folder: else it could be neither filled nor renamed."""


@attrs.define
class Progress:
    """How far a copy is: counted in its thread, read in the event loop.

    Attributes:
        done: Bytes of files so far.
    """

    done: int = 0


def pack(source: Path, progress: Progress, stream: BinaryIO) -> None:
    """Write a file or a folder as ``data``, and then ``end``, by which the reader knows that it is whole.

    Links stay links. Sockets, pipes and devices are left out.

    Raises:
        OSError: Something cannot be read, or nobody reads any more.
    """
    # GNU's format: names of any bytes, and read by every tar.
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        _add(archive, source, "data", progress)
        archive.addfile(tarfile.TarInfo("end"))


def _add(archive: tarfile.TarFile, path: Path, name: str, progress: Progress) -> None:
    member: tarfile.TarInfo | None = archive.gettarinfo(
        path, name
    )  # none for sockets, whatever its type says
    if not member or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isdir():
        member.mode |= _OWN
    if member.isreg():
        with path.open("rb") as file:
            archive.addfile(member, _Counted(file, progress))
    else:
        archive.addfile(member)
    _forget_members(archive)
    if member.isdir():
        for entry in sorted(os.listdir(path)):  # noqa: PTH208 - names are all that is needed
            _add(archive, path / entry, f"{name}/{entry}", progress)


class _Counted:
    """A file whose bytes are counted as they are read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.done += len(data)
        return data


def unpack(stream: BinaryIO, folder: Path, progress: Progress) -> list[str]:
    """Read what a pod has packed into an empty folder. Links come last: nothing is written through one.

    Returns:
        What was left out, as a message can show it: links that leave the folder, pipes, devices.

    Raises:
        TransferError: The pod has sent a file that would be outside the folder.
        tarfile.TarError: The stream ends early, or is no archive.
        OSError: Something cannot be written.
    """
    links = _Links()
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        while (member := archive.next()) is not None:
            _forget_members(archive)
            name = _inside(member.name)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                path.mkdir(exist_ok=True)
                path.chmod(member.mode & _MODES | _OWN)
            elif member.isreg():
                _write(archive, member, path, progress)
            elif not links.add(name, member):
                os.link(folder / _inside(member.linkname), path)
    return links.make(folder)


class _Links:
    """Links that are made after all files, and what has no place here."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}

    def add(self, name: str, member: tarfile.TarInfo) -> bool:
        """Remember a member that is no file; ``False`` where it is another name of one."""
        target = member.linkname if member.issym() else ""
        if member.islnk():
            first = _inside(member.linkname)
            if first not in self._targets:
                return False
            target = self._targets[first]
        self._targets[name] = target
        return True

    def make(self, folder: Path) -> list[str]:
        """Make the links that stay in the folder; return all others, as a message can show them."""
        left_out: list[str] = []
        for name, target in self._targets.items():
            if _stays_inside(name, target):
                (folder / name).symlink_to(target)
            else:
                left_out.append(f"{name!r} -> {target!r}" if target else repr(name))
        return left_out


def _forget_members(archive: Any) -> None:
    """Have an archive forget what it has handled; it would keep all of it until its end."""
    archive.members.clear()


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, progress: Progress) -> None:
    source = archive.extractfile(member)
    assert source is not None  # noqa: S101 - it is a file
    with path.open("xb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            progress.done += len(chunk)
    path.chmod(member.mode & _MODES)
    os.utime(path, (member.mtime, member.mtime))


def _inside(name: str) -> str:
    """Return a member's name without what means nothing.

    Raises:
        TransferError: It is outside the folder.
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts:
        raise TransferError(f"The pod has sent {name!r}, which is outside the folder: nothing was changed.")
    return "/".join(parts) or "."


def _stays_inside(name: str, target: str) -> bool:
    """Whether a link leads to a place in the folder; ``..`` only at its beginning: folders alone are left."""
    parts = [part for part in target.split("/") if part not in {"", "."}]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return bool(target) and not target.startswith("/") and ".." not in parts[ups:] and ups <= name.count("/")


def make_staging(target: Path, *, is_into: bool) -> Path:
    """Make a folder on the disk of ``target``, where a copy is complete before it takes its place.

    Args:
        target: Where the copy goes.
        is_into: Whether that is a folder, made if need be.
    """
    if is_into:
        target.mkdir(parents=True, exist_ok=True)
    beside = target if target.is_dir() else target.parent
    beside.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".primepods-", dir=beside))


def place(made: Path, target: Path) -> None:
    """Give a file or a folder its place; in a folder that is there, its files replace those of their names.

    Raises:
        TransferError: There is a file where a folder must be, or the other way round. Nothing was changed.
        OSError: Something cannot be renamed.
    """
    if made.is_dir() and target.is_dir():
        _check_places(made, target)
        _merge(made, target)
    else:
        _check_fit(made, target)
        made.replace(target)


def _check_places(made: Path, target: Path) -> None:
    for path in list(made.iterdir()):
        _check_fit(path, target / path.name)
        if _is_folder(path) and (target / path.name).is_dir():
            _check_places(path, target / path.name)


def _check_fit(made: Path, target: Path) -> None:
    if _is_folder(made) and (target.is_symlink() or target.exists()) and not _is_folder(target):
        raise TransferError(f"{target} is no folder here, and one on the pod. Nothing was changed.")
    if not _is_folder(made) and _is_folder(target):
        raise TransferError(f"{target} is a folder here, and none on the pod. Nothing was changed.")


def _merge(made: Path, target: Path) -> None:
    for path in list(made.iterdir()):
        if _is_folder(path) and (target / path.name).is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
