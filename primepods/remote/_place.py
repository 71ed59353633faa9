"""Move a complete download to its target. All functions block."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from .._utils.files import has_locks, lock_file
from ..errors import TransferError

_PREFIX: Final = ".primepods-copy-"


def check_target(target: Path) -> None:
    """Check that a path contains no link to a folder, if an earlier download may have made the link.

    Such links are relative, and belong to this user. Without this check, a pod could send a link to a folder
    such as ``.git``, and write there with the next download.

    Raises:
        TransferError: The target, or a folder above it, is such a link.
    """
    for path in (target, *target.parents):
        if path.is_symlink() and path.is_dir():
            text = str(path.readlink())
            is_own = sys.platform == "win32" or path.lstat().st_uid == os.getuid()
            if is_own and not Path(text).is_absolute():
                raise TransferError(
                    f"{path} is a link to {text!r}, which an earlier copy may have made: give the path of "
                    "the folder itself. Nothing was changed."
                )


def create_staging(target: Path) -> tuple[Path, int]:
    """Create a temporary folder on the disk of ``target``, in the nearest folder that exists.

    Delete those of killed processes there.

    Returns:
        The folder, and the descriptor of its lock, which the end of this process also releases; -1 for none.

    Raises:
        TransferError: A parent of the target is not a folder.
        OSError: The folder cannot be written.
    """
    folder = target.parent if target.exists() and not target.is_dir() else target
    while not folder.is_dir():
        if folder != target and os.path.lexists(folder):
            raise TransferError(f"{folder} is not a folder. Nothing was changed.")
        folder = folder.parent
    if not has_locks():
        # There, an open file would prevent the deletion of its folder.
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder)), -1
    for path in folder.glob(f"{_PREFIX}*/lock"):
        with suppress(OSError):
            if (lock := lock_file(path, attempts=1)) >= 0:
                shutil.rmtree(path.parent, ignore_errors=True)
                os.close(lock)
    while True:
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        try:
            lock = lock_file(staging / "lock")
        except OSError:  # this disk has no locks
            return staging, -1
        if lock >= 0:
            if (staging / "lock").exists():
                return staging, lock
            # Another process has found the file before it was locked, and deleted the folder.
            os.close(lock)


def place(staged: Path, target: Path) -> None:
    """Move a complete copy to its target; try to undo all moves if one fails.

    An existing folder keeps its other files. ``staged`` is in a folder made by :func:`create_staging`.

    Raises:
        TransferError: A file would replace a folder or the reverse, or a folder is on another disk or cannot
            be written.
        OSError: A file cannot be moved, or a folder cannot be created.
    """
    is_merge = _is_folder(staged) and target.is_dir()
    # Check all moves before the first one.
    moves = list(_moves(staged, target)) if is_merge else [(staged, target)]
    for source, path in moves:
        _check_kind(source, path)
    old = Path(tempfile.mkdtemp(prefix="old-", dir=staged.parent))
    folders = [path for path in target.parents if not os.path.lexists(path)]
    done: list[tuple[Path, Path, Path]] = []
    try:
        for folder in reversed(folders):
            folder.mkdir(exist_ok=True)
        for number, (source, path) in enumerate(moves):
            backup = old / str(number)
            # Record the move first, so that an interrupted one is undone, too.
            done.append((source, path, backup))
            _replace(source, path, backup)
    except BaseException:
        for source, path, backup in reversed(done):
            _undo(source, path, backup)
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()
        raise


def _moves(staged: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield source and target of each move that merges a staged folder into an existing one.

    Raises:
        TransferError: A folder in the target is on another disk, or cannot be written.
    """
    if target.stat().st_dev != staged.stat().st_dev:
        raise TransferError(f"{target} is on another disk: copy it by itself. Nothing was changed.")
    if not os.access(target, os.W_OK | os.X_OK):
        raise TransferError(f"{target} cannot be written. Nothing was changed.")
    for path in list(staged.iterdir()):
        if _is_folder(path) and _is_folder(target / path.name):
            yield from _moves(path, target / path.name)
        else:
            yield path, target / path.name


def _check_kind(staged: Path, target: Path) -> None:
    if _is_folder(staged) and os.path.lexists(target):
        raise TransferError(f"{target} is a folder on the pod, but not here. Nothing was changed.")
    # A link may replace a link: a repeated copy has the same links to folders.
    if not _is_folder(staged) and target.is_dir() and not (staged.is_symlink() and target.is_symlink()):
        raise TransferError(f"{target} is a folder here, but not on the pod. Nothing was changed.")


def _replace(source: Path, target: Path, backup: Path) -> None:
    try:
        if os.path.lexists(target):
            try:
                os.link(target, backup, follow_symlinks=False)
            except OSError:  # the disk has no links; any other problem also makes the rename fail
                target.rename(backup)
        source.replace(target)
    except OSError as exc:
        # Name the target instead of the temporary folder.
        raise OSError(exc.errno, exc.strerror, str(target)) from None


def _undo(source: Path, target: Path, backup: Path) -> None:
    with suppress(OSError):
        if not os.path.lexists(source):
            target.rename(source)
        if os.path.lexists(backup):
            backup.replace(target)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
