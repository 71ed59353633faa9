"""Reader of the ``tar`` stream of a pod, which may send anything.

The standard library's reader accepts a truncated archive. It also lets the archive choose how much memory a
name takes, and how deep the reader recurses.
"""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterator
from typing import BinaryIO, Final

import attrs

from ..errors import TransferError

_BLOCK: Final = 512
_CHUNK_SIZE: Final = 256 * 1024
_MAX_HEADER: Final = 64 * 1024
"""Max bytes of a long name, or of extended headers: Linux allows paths of 4 KiB."""
_MAX_REST: Final = 1 << 20
"""Max bytes after the end of the archive: ``tar`` pads the last record."""
_MAX_TIME: Final = 1 << 33
_LONG_NAMES: Final = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_EXTENDED: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class CutShortError(TransferError):
    """The stream ended before the end of the archive."""


@attrs.frozen
class ArchiveReader:
    """Reader of an archive, and of the rest of its stream."""

    stream: BinaryIO

    def members(self) -> Generator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
        """Yield each member with its content, up to the archive's end mark; then read the rest of the stream.

        Raises:
            CutShortError: The stream ended before the end mark.
            TransferError: The stream is not a valid archive.
        """
        fields: dict[str, str] = {}
        while True:
            block = self._read(_BLOCK)
            if not block.strip(b"\0"):
                # Until all is read, the script on the pod cannot end.
                if len(self.stream.read(_MAX_REST)) == _MAX_REST:
                    raise TransferError("The pod sent more data after the end of its archive.")
                return
            member = _parse_header(block)
            if member.type in _LONG_NAMES:
                fields[_LONG_NAMES[member.type]] = self._read_header(member).partition("\0")[0]
            elif member.type in _EXTENDED:
                fields |= _parse_fields(self._read_header(member))
            elif member.type == tarfile.XGLTYPE:
                self._read_header(member)  # global fields, such as comments, are ignored
            else:
                _apply(fields, member)
                fields = {}
                content = self._content(member)
                yield member, content
                for _ in content:
                    pass

    def _content(self, member: tarfile.TarInfo) -> Generator[bytes]:
        # As in `tar`, links and folders have no content, whatever their size.
        left = member.size if member.isreg() else 0
        padding = -left % _BLOCK
        while left:
            chunk = self._read(min(left, _CHUNK_SIZE))
            left -= len(chunk)
            yield chunk
        self._read(padding)

    def _read_header(self, member: tarfile.TarInfo) -> str:
        if not 0 <= member.size <= _MAX_HEADER:
            raise TransferError(f"The pod sent a name of {member.size:,} bytes.")
        content = self._read(member.size)
        self._read(-member.size % _BLOCK)
        return content.decode("utf-8", "surrogateescape")

    def _read(self, count: int) -> bytes:
        try:
            data = self.stream.read(count)
        except OSError:  # about the stream, not about a local file
            data = b""
        if len(data) < count:
            raise CutShortError("The pod's archive ended early.")
        return data


def _parse_header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as exc:
        raise TransferError(f"The pod sent something that is not an archive: {exc}.") from None


def _parse_fields(text: str) -> dict[str, str]:
    """Return the fields of an extended header, which has lines of ``LENGTH NAME=VALUE``."""
    data = text.encode("utf-8", "surrogateescape")
    fields: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        end = int(length) if length.isdigit() and len(length) <= len(str(_MAX_HEADER)) else 0
        line = data[len(length) + 1 : end - 1]
        if not 0 < end <= len(data) or b"=" not in line:
            raise TransferError("The pod sent an extended header that cannot be read.")
        name, _, value = line.partition(b"=")
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[end:]
    return fields


def _apply(fields: dict[str, str], member: tarfile.TarInfo) -> None:
    """Apply extended fields, which hold values that do not fit into the header of a member."""
    member.name = fields.get("path", member.name)
    member.linkname = fields.get("linkpath", member.linkname)
    try:
        member.size = int(fields.get("size", member.size))
        # Limit the time: an extreme time cannot be set.
        member.mtime = max(0, min(int(float(fields.get("mtime", member.mtime))), _MAX_TIME))
    except (ValueError, OverflowError):
        raise TransferError(f"The pod sent {member.name!r} with an invalid size or time.") from None
    if member.size < 0 or "GNU.sparse.major" in fields or member.type == tarfile.GNUTYPE_SPARSE:
        raise TransferError(f"The pod sent {member.name!r} in a form that cannot be read.")
