"""One thing in full: a line for each of its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from ._output import write
from ._table import Column, has_colour, render_table

_COLUMNS = (Column("FIELD"), Column("VALUE"))


def print_details(row: Mapping[str, Any]) -> None:
    """Print the fields that are known, as ``to_dict()`` names them."""
    known = [(name, _text(value)) for name, value in row.items() if value not in (None, [], {})]
    write(render_table(_COLUMNS, known, width=None, colour=has_colour()))


def _text(value: Any) -> str:
    """Return a value on one line: an object's parts by name, a list's as JSON."""
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        if "command" in parts:
            return str(parts["command"])
        return ", ".join(f"{name} {_text(part)}" for name, part in parts.items() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(_text, cast("Any", value)))
    return value if isinstance(value, str) else json.dumps(value)
