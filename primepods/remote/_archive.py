"""``tar`` streams: pack files for a pod, unpack files of a pod. All functions block."""

from __future__ import annotations

import os
import tarfile
import tempfile
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from ..errors import TransferError
from ._exclude import Exclusion

_CHUNK_SIZE: Final = 256 * 1024
_KEPT_MODES: Final = 0o755
"""Bits of the modes on the pod that a download keeps: no write permission for others."""
_OWNER_MODES: Final = 0o700
"""Permissions that the owner of every folder gets, so that it can be filled and renamed."""


@attrs.define
class Progress:
    """Progress of a copy, counted in the copying thread and read in the event loop.

    Attributes:
        done: Bytes of files so far.
    """

    done: int = 0


def pack(source: Path, exclusion: Exclusion, progress: Progress, stream: BinaryIO) -> None:
    """Write a file or a folder as member ``data``, then a member ``end``, which shows that all was received.

    Links stay links. Sockets, pipes and devices are left out.

    Raises:
        OSError: A file cannot be read, or the reader is gone.
    """
    # GNU's format: it allows names of any bytes, and every tar reads it.
    with tarfile.open(
        fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        _Packer(archive, exclusion, progress).add(source, "")
        archive.addfile(tarfile.TarInfo("end"))


@attrs.frozen
class _Packer:
    """Adds files and folders to an archive."""

    archive: tarfile.TarFile
    exclusion: Exclusion
    progress: Progress

    def add(self, path: Path, name: str) -> None:
        """Add a file or a folder; ``name`` is its path below the source, empty for the source itself."""
        # `gettarinfo` returns None for a socket, in spite of its annotation.
        member: tarfile.TarInfo | None = self.archive.gettarinfo(path, f"data/{name}".rstrip("/"))
        if not (member and _is_packable(member)):
            return
        if name and self.exclusion.matches(name, is_folder=member.isdir()):
            return
        self._add_member(path, member)
        _clear_members(self.archive)
        if member.isdir():
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                self.add(path / entry.name, f"{name}/{entry.name}".lstrip("/"))

    def _add_member(self, path: Path, member: tarfile.TarInfo) -> None:
        """Write a member, without its owner; a file with its content."""
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        if member.isreg():
            with path.open("rb") as file:
                self.archive.addfile(member, _CountingFile(file, self.progress))
        else:
            if member.isdir():
                member.mode |= _OWNER_MODES
            self.archive.addfile(member)


def _is_packable(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a file, a folder or a link."""
    return member.isreg() or member.isdir() or member.issym() or member.islnk()


class _CountingFile:
    """File whose bytes are counted as they are read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.done += len(data)
        return data


def unpack(stream: BinaryIO, folder: Path, progress: Progress) -> list[str]:
    """Unpack a pod's archive into an empty folder; create links last, so that nothing is written through one.

    Returns:
        The members that were left out, for a message: links that leave the folder, pipes, devices.

    Raises:
        TransferError: The path of a member is outside the folder.
        tarfile.TarError: The stream ends early, or is no archive.
        OSError: A file cannot be written.
    """
    links = _Links()
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        while (member := archive.next()) is not None:
            _clear_members(archive)
            name = _checked_path(member.name)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                path.mkdir(exist_ok=True)
                path.chmod((member.mode & _KEPT_MODES) | _OWNER_MODES)
            elif member.isreg():
                _write(archive, member, path, progress)
            elif links.is_link_to_file(member):
                os.link(folder / _checked_path(member.linkname), path)
            else:
                links.add(name, member)
    return links.create(folder)


class _Links:
    """Links to create after all files, and members to leave out."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        """Target of each link; empty for a member that is left out."""

    def is_link_to_file(self, member: tarfile.TarInfo) -> bool:
        """Return whether a member is a hard link to a file, which is already written."""
        return member.islnk() and _checked_path(member.linkname) not in self._targets

    def add(self, name: str, member: tarfile.TarInfo) -> None:
        """Store a member that is no file and no hard link to one."""
        if member.issym():
            self._targets[name] = member.linkname
        elif member.islnk():
            self._targets[name] = self._targets[_checked_path(member.linkname)]
        else:
            self._targets[name] = ""

    def create(self, folder: Path) -> list[str]:
        """Create the links that stay in the folder; return the members that are left out, for a message."""
        left_out: list[str] = []
        for name, target in self._targets.items():
            if _stays_inside(name, target):
                (folder / name).symlink_to(target)
            else:
                left_out.append(f"{name!r} -> {target!r}" if target else repr(name))
        return left_out


def _clear_members(archive: Any) -> None:
    """Clear an archive's list of its members, which grows with each member."""
    archive.members.clear()


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, progress: Progress) -> None:
    source = archive.extractfile(member)
    with path.open("xb") as file:
        while source is not None and (chunk := source.read(_CHUNK_SIZE)):
            file.write(chunk)
            progress.done += len(chunk)
    path.chmod(member.mode & _KEPT_MODES)
    os.utime(path, (member.mtime, member.mtime))


def _checked_path(name: str) -> str:
    """Return the normalised path of a member.

    Raises:
        TransferError: The path is outside the folder.
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts:
        raise TransferError(f"The pod sent {name!r}, which is outside the folder. Nothing was changed.")
    return "/".join(parts) or "."


def _stays_inside(name: str, target: str) -> bool:
    """Return whether a link stays in the folder; ``..`` is allowed only at the beginning of its target."""
    if not target or target.startswith("/"):
        return False
    parts = [part for part in target.split("/") if part not in {"", "."}]
    levels_up = len(list(takewhile(lambda part: part == "..", parts)))
    return ".." not in parts[levels_up:] and levels_up <= name.count("/")


def create_staging(target: Path, *, is_target_folder: bool) -> Path:
    """Create a temporary folder on the disk of ``target``, in which a copy is completed before it is renamed.

    Args:
        target: The target of the copy.
        is_target_folder: Whether the target is a folder, which is created if it does not exist.
    """
    if is_target_folder:
        target.mkdir(parents=True, exist_ok=True)
    parent = target if target.is_dir() else target.parent
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".primepods-", dir=parent))


def move_into_place(staged: Path, target: Path) -> None:
    """Move a complete copy to its target; in an existing folder, replace files of the same names.

    Raises:
        TransferError: A file is in the place of a folder, or the reverse. Nothing was changed.
        OSError: A file cannot be renamed.
    """
    if staged.is_dir() and target.is_dir():
        _check_same_kinds(staged, target)
        _merge(staged, target)
    else:
        _check_same_kind(staged, target)
        staged.replace(target)


def _check_same_kinds(staged: Path, target: Path) -> None:
    for path in list(staged.iterdir()):
        _check_same_kind(path, target / path.name)
        if _is_folder(path) and (target / path.name).is_dir():
            _check_same_kinds(path, target / path.name)


def _check_same_kind(staged: Path, target: Path) -> None:
    # `exists` is false for a broken link.
    is_occupied = target.is_symlink() or target.exists()
    if _is_folder(staged) and is_occupied and not _is_folder(target):
        raise TransferError(f"{target} is a folder on the pod, but not here. Nothing was changed.")
    if not _is_folder(staged) and _is_folder(target):
        raise TransferError(f"{target} is a folder here, but not on the pod. Nothing was changed.")


def _merge(staged: Path, target: Path) -> None:
    for path in list(staged.iterdir()):
        if _is_folder(path) and (target / path.name).is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
