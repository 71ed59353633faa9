"""Compressed bodies, unpacked piece by piece: no answer can make more of itself than is asked for.

The HTTP library could do this, but older versions of it unpack whatever one read of the socket brings at
once, a thousandfold with gzip and far more with brotli.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

ACCEPTED: Final = "gzip, deflate"
"""What a request says that it can read."""
_PIECE: Final = 1 << 18
_MOST_MEMBERS: Final = 100
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_METHOD: Final = 8


class _Inflater(Protocol):
    """What zlib gives; its own name for it is private."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class UnpackError(Exception):
    """The body is not packed as its header says, or not to its end."""


class Unpacker:
    """Unpacks one body.

    Args:
        encoding: The answer's ``Content-Encoding``.

    Raises:
        UnpackError: It is not one of those accepted.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower().removeprefix("x-")
        self._members = 0
        self._inflater: _Inflater | None = None
        if self._encoding not in {"", "identity", "gzip", "deflate"}:
            msg = f"packed as {self._encoding[:50]!r}, which was not asked for"
            raise UnpackError(msg)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` holds, in pieces of at most 256 KiB.

        Raises:
            UnpackError: It cannot be unpacked.
        """
        if self._encoding in {"", "identity"}:
            yield data
            return
        while data:
            inflater = self._inflater or self._begin(data)
            try:
                piece = inflater.decompress(data, _PIECE)
            except zlib.error as exc:
                raise UnpackError(str(exc)) from None
            data = inflater.unconsumed_tail
            self._inflater = inflater
            if inflater.eof:
                data, self._inflater = inflater.unused_data, None
            if piece:
                yield piece

    def end(self) -> None:
        """Check that the body has come to its end.

        Raises:
            UnpackError: It has not.
        """
        if self._inflater is not None:
            msg = f"the {self._encoding} data ends too early"
            raise UnpackError(msg)

    def _begin(self, data: bytes) -> _Inflater:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            msg = f"more than {_MOST_MEMBERS} packed bodies in one"
            raise UnpackError(msg)
        if self._encoding == "gzip":
            return zlib.decompressobj(_GZIP)
        # "deflate" means zlib's format, yet some servers send what is inside of it.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0xF == _ZLIB_METHOD else -zlib.MAX_WBITS)
