"""Text from elsewhere as a message, a log or a terminal can show it."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 100


def quote(value: object) -> str:
    """Return a caller's value as an error message can show it: short and printable, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a strange object's own, or an integer of thousands of digits
        text = f"<{type(value).__name__}>"
    text = "".join(char if char.isprintable() else " " for char in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def one_line(text: str) -> str:
    """Return text from the server as one printable line: no control codes reach a terminal or log."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
