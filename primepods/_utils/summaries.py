"""Values as one short line, and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .plain import to_plain
from .text import clip, one_line, quote

_LONGEST_VALUE: Final = 42
_LONGEST_REPR: Final = 198
_LONGEST_CELL: Final = 200


def short_repr(value: object, names: Iterable[str]) -> str:
    """Return ``Kind(name=value, …)`` in less than 200 characters, without what is ``None``."""
    pairs = [(name, getattr(value, name)) for name in names]
    shown = [f"{name}={quote(to_plain(item), _LONGEST_VALUE)}" for name, item in pairs if item is not None]
    return clip(f"{type(value).__name__}({', '.join(shown)})", _LONGEST_REPR)


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table in which everything is text, whatever the server sent."""
    head = _html_row("th", columns)
    body = "".join(_html_row("td", row) for row in rows)
    return f"<table><caption>{_html(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def _html_row(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_html(cell)}</{tag}>' for cell in cells)}</tr>"


def _html(cell: object) -> str:
    import html  # noqa: PLC0415 - a table of entities, of which a script has no need

    return "" if cell is None else html.escape(clip(one_line(str(cell)), _LONGEST_CELL))
