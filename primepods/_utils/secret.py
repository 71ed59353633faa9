"""A string that does not show itself."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

_SHORTEST: Final = 8


class Secret(str):
    """A ``str`` whose ``repr`` is redacted and which does not pickle its text.

    The API key and the header made of it are of this class, so that tracebacks that print local variables,
    also those of the HTTP library's frames, show nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[redacted]'"

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        return Secret, ("",)

    def __getitem__(self, key: Any, /) -> Secret:
        # Printers of local variables show the beginning of what is long.
        return Secret(super().__getitem__(key))

    def scrub(self, text: str) -> str:
        """Return ``text`` without this secret, also where it is percent-encoded.

        One of less than 8 characters protects nothing, and may be part of any word: it is left alone.
        """
        if len(self) < _SHORTEST:
            return text
        encoded = quote(str(self), safe="")
        for spelling in {str(self), encoded, re.sub("%..", lambda code: code[0].lower(), encoded)}:
            text = text.replace(spelling, "[redacted]")
        return text
