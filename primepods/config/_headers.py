"""Values of a client's headers: the user's headers, the user agent, keys and teams."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .._utils.arguments import check_string
from .._utils.secret import Secret
from .._utils.text import quote
from ..errors import ConfigError
from ._files import Found

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_OWN_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-prime-team-id",
    }
)


def check_headers(name: str, value: Mapping[str, str] | None) -> tuple[tuple[str, Secret], ...]:
    """Return the headers sorted by name, with names in lower case.

    Raises:
        TypeError: ``value`` is not a mapping of strings.
        ValueError: A header is set by the client, or a name or value is not valid in a request.
    """
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of header names to values, got {quote(value)}")
    checked: dict[str, Secret] = {}
    for header, text in (value or {}).items():
        lower = check_string(f"a name in {name}", header).lower()
        if not _HEADER_NAME.fullmatch(lower) or lower in _OWN_HEADERS:
            raise ValueError(f"{name} must have valid names of additional headers, got {quote(header)}")
        if not check_string(f"{name}[{quote(header)}]", text).isprintable() or not text.isascii():
            raise ValueError(f"{name}[{quote(header)}] must be printable ASCII text")
        checked[lower] = Secret(text)
    return tuple(sorted(checked.items()))


def check_header_value(what: str, found: Found) -> str:
    """Return the value of a key or a team id; raise ConfigError if a header cannot carry it."""
    if not (found.value.isascii() and found.value.isprintable()) or " " in found.value:
        raise ConfigError(
            f"The {what} ({found.source}) holds spaces, control or non-ASCII characters, which a request "
            "cannot carry. Copy it again."
        )
    return found.value


def check_user_agent(value: str) -> str:
    """Return ``value`` without outer spaces; raise ValueError if a header cannot carry it."""
    if not (check_string("user_agent", value).strip() and value.isascii() and value.isprintable()):
        raise ValueError(f"user_agent must be printable ASCII text, got {quote(value)}")
    return value.strip()
