"""A folder whose unsynced changes are lost or torn when the power fails."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

Draw = Callable[[str, int], int]


class Disk:
    """A folder of real files, with a record of what is synced. Subfolders survive as they are.

    Args:
        folder: The folder; it is made.
        draw: Returns a number from 0 to below its second argument, from the world's seed.
    """

    def __init__(self, folder: Path, draw: Draw) -> None:
        self.folder: Path = folder
        self._draw = draw
        self._synced: dict[int, bytes] = {}
        """Synced content by inode."""
        self._entries: dict[str, int] = {}
        """Inodes by relative path, as its folder was synced last."""
        self._open: dict[int, int] = {}
        """Descriptors by inode: an inode that is open is not given to another file."""
        folder.mkdir(parents=True)

    def note_sync(self, descriptor: int) -> None:
        """Record what has just been synced, a file or a folder."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            folder = _path_of(descriptor).readlink()
            if folder.is_relative_to(self.folder):
                others = [name for name in self._entries if (self.folder / name).parent != folder]
                synced = self._present(folder)
                self._entries = {name: self._entries[name] for name in others} | synced
                for name, inode in synced.items():
                    self._keep(inode, self.folder / name)
        elif stat.S_ISREG(status.st_mode):
            self._synced[status.st_ino] = self._read(descriptor)
            self._keep(status.st_ino, _path_of(descriptor))

    def restart(self) -> None:
        """Leave what a reboot after a power cut finds: what was synced, and some of the rest.

        The files are new ones, so that no lock of the ended processes remains.
        """
        present = self._present()
        files: dict[str, bytes] = {}
        for name in sorted({*present, *self._entries}):
            old, new = self._entries.get(name), present.get(name)
            inode = new
            if old != new and self._draw("disk.entry", 2) == 0:
                inode = old
            if inode is not None:
                content = self._content(inode, name if inode == new else None)
                files[name] = self._after_power_cut(inode, content)
        self.close()
        for name in present:
            (self.folder / name).unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)
        self._entries = self._present()
        self._synced = {self._entries[name]: content for name, content in files.items()}
        for name, inode in self._entries.items():
            self._keep(inode, self.folder / name)

    def wipe(self) -> None:
        """Lose all files, as a container does."""
        for name in self._present():
            (self.folder / name).unlink()
        self._entries = {}

    def close(self) -> None:
        """Close the descriptors that keep inodes apart."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _after_power_cut(self, inode: int, content: bytes) -> bytes:
        """Return what is left of a file: the synced content, all of it, or a part of what was added."""
        synced = self._synced.get(inode, b"")
        if content == synced:
            return content
        fate = self._draw("disk.fate", 3)
        if fate == 1:
            kept = len(synced) if content.startswith(synced) else 0
            return content[: kept + self._draw("disk.tear", len(content) - kept + 1)]
        return content if fate == 2 else synced

    def _present(self, folder: Path | None = None) -> dict[str, int]:
        """Return the inodes of the files in one folder, by default in all."""
        paths = self.folder.rglob("*") if folder is None else folder.iterdir()
        return {
            str(path.relative_to(self.folder)): path.lstat().st_ino
            for path in sorted(paths)
            if path.is_file() and not path.is_symlink()
        }

    def _content(self, inode: int, name: str | None) -> bytes:
        """Return the content of a file, which has a name or was synced."""
        return (self.folder / name).read_bytes() if name is not None else self._read(self._open[inode])

    def _keep(self, inode: int, path: Path) -> None:
        if inode not in self._open:
            self._open[inode] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def _read(descriptor: int) -> bytes:
        return _path_of(descriptor).read_bytes()


def _path_of(descriptor: int) -> Path:
    # Not `os.dup`: a duplicate would share the lock of the file, and keep it.
    return Path(f"/proc/self/fd/{descriptor}")
