"""What a pod prints, as a line of a log."""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def log_text(line: str) -> str:
    """Return a line without what moves a cursor or colours a terminal."""
    return "".join(char for char in _ESCAPE.sub("", line) if char.isprintable() or char == "\t").rstrip()
