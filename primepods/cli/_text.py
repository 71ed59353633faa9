"""Text from elsewhere as a terminal or a line of output may show it."""

from __future__ import annotations

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "..."


def printable(text: str, *, longest: int = 80) -> str:
    """Return one line in which nothing steers a terminal, and not too long.

    Args:
        text: A name, a reason, a state: whatever the server sent.
        longest: Most characters to keep.
    """
    words = " ".join(text.split())
    kept = words if len(words) <= longest else words[: longest - len(_ELLIPSIS)] + _ELLIPSIS
    if kept.isprintable():
        return kept
    return "".join(character if character.isprintable() else _REPLACEMENT for character in kept)
