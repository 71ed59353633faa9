"""A string that does not show itself."""

from __future__ import annotations

from typing import Any


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
        """Return ``text`` without this secret."""
        return text.replace(str(self), "[redacted]") if self else text
