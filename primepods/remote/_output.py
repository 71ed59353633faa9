"""Parsers of a command's output: its marks, its lines, and its last bytes."""

from __future__ import annotations

import re
from typing import Final

_MAX_LOGIN_OUTPUT: Final = 16_384
_MAX_DIGITS: Final = 3
"""Max digits of an exit code."""
_MAX_LINE: Final = 65_536
_INSIDE_CHARACTER: Final = range(0x80, 0xC0)
"""All bytes of a UTF-8 character but the first."""
# A trailing carriage return may be the first half of CRLF, so it does not end a line yet.
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")


class MarkedOutput:
    """Parser of the output between the marks that our scripts print before and after a command.

    Output before the first mark comes from ``ssh``, the server and the shell's startup files.

    Args:
        mark: The random prefix of both marks.
    """

    def __init__(self, mark: str) -> None:
        self.is_ready = False
        self.exit_code: int | None = None
        self._ready = f"{mark} ready\n".encode()
        self._exit = f"{mark} exit ".encode()
        self._end_mark = re.compile(re.escape(self._exit) + rb"([0-9]{1,3})\n")
        self._buffer = b""

    @property
    def login_output(self) -> str:
        """The last 16 KiB of the output before the first mark; empty once the mark has arrived."""
        return "" if self.is_ready else self._buffer.decode(errors="replace")

    def feed(self, data: bytes) -> bytes:
        """Parse a chunk; return the command's output, except a last part that may belong to the exit mark."""
        if self.exit_code is not None:
            return b""
        self._buffer += data
        if not self.is_ready:
            _, found, rest = self._buffer.partition(self._ready)
            if not found:
                self._buffer = self._buffer[-_MAX_LOGIN_OUTPUT:]
                return b""
            self.is_ready = True
            self._buffer = rest
        end = self._end_mark.search(self._buffer)
        if end is not None:
            self.exit_code = int(end[1])
            split = end.start()
        else:
            split = len(self._buffer) - self._len_of_partial_mark(self._buffer)
        output = self._buffer[:split]
        self._buffer = b"" if end is not None else self._buffer[split:]
        return output

    def end(self) -> bytes:
        """Return the rest of the output, at the end of the stream."""
        rest = self._buffer if self.is_ready else b""
        self._buffer = b""
        return rest

    def _len_of_partial_mark(self, output: bytes) -> int:
        """Return the length of a partial exit mark at the end of the output."""
        without_code = output.rstrip(b"0123456789")
        if len(output) - len(without_code) <= _MAX_DIGITS and without_code.endswith(self._exit):
            return len(output) - len(without_code) + len(self._exit)
        for length in range(min(len(self._exit) - 1, len(output)), 0, -1):
            if output.endswith(self._exit[:length]):
                return length
        return 0


class Lines:
    """Splitter of a stream into lines of text, each with the position of its end.

    Args:
        position: Position of the first byte.
    """

    def __init__(self, position: int = 0) -> None:
        self._position = position
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, int]]:
        """Return the complete lines, which end with LF, CRLF or CR; split lines of more than 64 KiB."""
        self._rest += data
        lines: list[tuple[str, int]] = []
        start = 0
        for end in _LINE_END.finditer(self._rest):
            # Skip an empty line before a carriage return: progress bars start with a carriage return.
            if end.start() > start or end[0] != b"\r":
                lines.append(self._line(start, end.start(), end.end()))
            start = end.end()
        while len(self._rest) - start > _MAX_LINE:
            cut = start + _MAX_LINE
            while cut > start and self._rest[cut] in _INSIDE_CHARACTER:
                cut -= 1
            cut = cut if cut > start else start + _MAX_LINE
            lines.append(self._line(start, cut, cut))
            start = cut
        self._position += start
        self._rest = self._rest[start:]
        return lines

    def end(self) -> list[tuple[str, int]]:
        """Return the unfinished last line, if any."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        return [(rest.decode(errors="replace"), self._position + len(rest))] if rest else []

    def _line(self, start: int, end: int, next_start: int) -> tuple[str, int]:
        return self._rest[start:end].decode(errors="replace"), self._position + next_start


class Tail:
    """Buffer of the last ``limit`` bytes of an output."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept = bytearray()
        self._total = 0

    @property
    def is_truncated(self) -> bool:
        """Whether the start of the output is missing."""
        return self._total > self.limit

    async def add(self, data: bytes) -> None:
        """Add output, as a sink of a session."""
        self._kept += data
        self._total += len(data)
        if len(self._kept) > 2 * self.limit:
            del self._kept[: -self.limit]

    def text(self) -> str:
        return self._kept[-self.limit :].decode(errors="replace")
