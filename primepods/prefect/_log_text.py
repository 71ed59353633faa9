"""Conversion of a pod's output to log lines."""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def log_text(line: str) -> str:
    """Return a line without terminal escape sequences and unprintable characters; tabs stay."""
    return "".join(char for char in _ESCAPE.sub("", line) if char.isprintable() or char == "\t").rstrip()
