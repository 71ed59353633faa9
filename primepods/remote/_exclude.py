"""Patterns of files that an upload leaves out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from .._utils.arguments import check_texts
from .._utils.text import quote

_TOKEN: Final = re.compile(r"(?<![^/])\*\*/|\*\*|\*|\?|\[[!^]?[^]]+\]")
_RANGE: Final = re.compile(r"(.)-(.)|.", re.DOTALL)
_WILDCARDS: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Exclusion(Collection[str]):
    """Patterns of paths to leave out, in the style of rsync and tar.

    ``.git`` and ``*.pyc`` match a name at any depth. ``docs/build`` matches the end of a path, ``/build``
    only a path at the top, and ``build/`` only folders. ``*``, ``?``, ``[a-z]`` and ``[!a-z]`` do not match
    a slash; ``**`` does.

    Raises:
        TypeError: The patterns are a single string, or not an iterable of strings.
        ValueError: A pattern is empty or invalid.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._texts = check_texts("exclude", patterns)
        self._patterns = [_compile(text) for text in self._texts]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    # A collection: the blocking client would replace any other iterable with a list.
    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, pattern: object) -> bool:
        return pattern in self._texts

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Return whether to leave out a path, which is relative to the uploaded folder."""
        text = f"{path}/" if is_folder else path
        return any(pattern.fullmatch(text) for pattern in self._patterns)


def _compile(pattern: str) -> re.Pattern[str]:
    names = pattern.strip("/")
    start = "" if pattern.startswith("/") else "(?:.*/)?"
    end = "/" if pattern.endswith("/") else "/?"
    try:
        # A path never has these parts.
        if not {"", ".", ".."} & set(names.split("/")):
            return re.compile(start + _translate(names) + end, re.DOTALL)
    except re.error:
        pass
    raise ValueError(
        f"exclude has {quote(pattern)}, which is not a pattern: write it like .git, *.pyc or /build"
    )


def _translate(names: str) -> str:
    """Return the regular expression of a pattern without its outer slashes."""
    parts: list[str] = []
    position = 0
    for found in _TOKEN.finditer(names):
        parts += [re.escape(names[position : found.start()]), _wildcard(found[0])]
        position = found.end()
    return "".join([*parts, re.escape(names[position:])])


def _wildcard(token: str) -> str:
    if not token.startswith("["):
        return _WILDCARDS[token]
    members = token[1:-1]
    if "[:" in members:
        raise ValueError("exclude has a class such as [[:digit:]]: write it as a set, such as [0-9]")
    is_negated = members[0] in "!^"
    ranges = _RANGE.sub(_escape_range, members[1:] if is_negated else members)
    return f"(?!/)[{'^' if is_negated else ''}{ranges}]"


def _escape_range(found: re.Match[str]) -> str:
    """Escape a single character, or both ends of a range."""
    return "-".join(map(re.escape, found.groups())) if found[1] else re.escape(found[0])
