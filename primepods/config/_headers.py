"""Values of a client's headers: the user agent, keys and teams."""

from __future__ import annotations

from .._utils.arguments import check_string
from .._utils.text import quote
from ..errors import ConfigError
from ._files import Found


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
