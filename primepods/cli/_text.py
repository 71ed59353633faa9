"""Text from elsewhere as a terminal or a line of output may show it."""

from __future__ import annotations

from collections.abc import Sized

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


def count(things: Sized, noun: str) -> str:
    """Return how many there are: ``1 pod``, ``1,200 pods``."""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"
