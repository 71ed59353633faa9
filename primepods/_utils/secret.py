"""A string that does not show itself."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

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
        """Return ``text`` without this secret, in upper or lower case, percent-encoded in part or as a whole.

        A secret of less than 8 characters is not redacted: it may be part of any word.
        """
        if len(self) < _SHORTEST or self.lower() not in unquote(text).lower():
            return text
        letters = ("|".join((re.escape(letter), _percent_encode(letter))) for letter in self)
        return re.sub("".join(f"(?:{letter})" for letter in letters), "[redacted]", text, flags=re.IGNORECASE)


def _percent_encode(text: str) -> str:
    """Return ``text`` with each byte percent-encoded, letters and digits too."""
    return "".join(f"%{byte:02x}" for byte in text.encode())
