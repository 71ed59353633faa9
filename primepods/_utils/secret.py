"""A string with a hidden repr."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

_MIN_LENGTH: Final = 8


class Secret(str):
    """A ``str`` with a redacted ``repr``, so that tracebacks with local variables do not show it.

    A pickled secret is an empty string. ``copy`` returns the object itself.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[redacted]'"

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        return Secret, ("",)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object, /) -> Secret:
        return self

    def __getitem__(self, key: Any, /) -> Secret:
        # Some traceback printers, such as rich, show the `repr` of a slice of a long string.
        return Secret(super().__getitem__(key))

    def scrub(self, text: str) -> str:
        """Return ``text`` with this secret redacted, also in another case or percent-encoded.

        A secret shorter than 8 characters is not redacted, because it may be part of other words.
        """
        if len(self) < _MIN_LENGTH:
            return text
        # Fast path, except for a secret with "%": `unquote` would decode its own escapes, too.
        if "%" not in self and self.lower() not in unquote(text).lower():
            return text
        pattern = "".join(f"(?:{re.escape(letter)}|{_percent_encode(letter)})" for letter in self)
        return re.sub(pattern, "[redacted]", text, flags=re.IGNORECASE)


def _percent_encode(text: str) -> str:
    """Return ``text`` with all bytes percent-encoded, including letters and digits."""
    return "".join(f"%{byte:02x}" for byte in text.encode())
