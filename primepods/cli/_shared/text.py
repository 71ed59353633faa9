"""Text for messages and tables: untrusted text made safe for a terminal, counts, shortened ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sized

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "..."
_MIN_ID_LENGTH = 8


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


def shorten_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return a unique prefix of each id. All ids are cut at the same length of at least 8 characters."""
    unique = sorted(set(ids))
    length = next(
        size for size in itertools.count(_MIN_ID_LENGTH) if len({one[:size] for one in unique}) == len(unique)
    )
    return {pod_id: pod_id[:length] for pod_id in unique}
