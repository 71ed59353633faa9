"""Text from elsewhere as a message, a log or a terminal can show it."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 100


def quote(value: object, longest: int = _LONGEST) -> str:
    """Return a value as a message can show it: its ``repr``, short and printable, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a strange object's own, or an integer of thousands of digits
        text = f"<{type(value).__name__}>"
    text = "".join(char if char.isprintable() else " " for char in text[: longest + 1])
    return clip(text, longest)


def one_line(text: str) -> str:
    """Return text from the server as one printable line: no control codes reach a terminal or log."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def clip(text: str, longest: int) -> str:
    """Return a text, or its beginning and a mark that it goes on."""
    return text if len(text) <= longest else f"{text[:longest]}…"
