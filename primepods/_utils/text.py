"""Text from other sources, made safe for messages, logs and terminals."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 100


def quote(value: object, longest: int = _LONGEST) -> str:
    """Return a value's ``repr`` for a message: short and printable, for any value."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr may raise anything
        text = f"<{type(value).__name__}>"
    text = "".join(char if char.isprintable() else " " for char in text[: longest + 1])
    return clip(text, longest)


def one_line(text: str) -> str:
    """Return text from the server as one printable line: control codes never reach a terminal or log."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def clip(text: str, longest: int) -> str:
    """Return a text, clipped with a mark if it is too long."""
    return text if len(text) <= longest else f"{text[:longest]}…"
