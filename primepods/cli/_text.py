"""Text for messages: untrusted text made safe for a terminal, and counts."""

from __future__ import annotations

from collections.abc import Sized

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "..."


def printable(text: str, *, max_length: int = 80) -> str:
    """Return a text as one line of at most ``max_length`` characters; replace unprintable characters."""
    words = " ".join(text.split())
    if len(words) > max_length:
        words = words[: max_length - len(_ELLIPSIS)] + _ELLIPSIS
    if words.isprintable():
        return words
    return "".join(character if character.isprintable() else _REPLACEMENT for character in words)


def count(things: Sized, noun: str) -> str:
    """Return the number of things with a noun: ``1 pod``, ``1,200 pods``."""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"
