"""Values as one short line, or as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .plain import to_plain
from .text import clip, one_line, quote

_MAX_VALUE_LENGTH: Final = 42
_MAX_REPR_LENGTH: Final = 198
_MAX_CELL_LENGTH: Final = 200
_MAX_ROWS: Final = 50


def short_repr(value: object, names: Iterable[str]) -> str:
    """Return ``Kind(name=value, …)`` in fewer than 200 characters, without values that are ``None``."""
    items = {name: getattr(value, name) for name in names}
    fields = [f"{name}={_short(item)}" for name, item in items.items() if item is not None]
    return clip(f"{type(value).__name__}({', '.join(fields)})", _MAX_REPR_LENGTH)


def _short(item: object) -> str:
    return quote(to_plain(item), _MAX_VALUE_LENGTH)


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table of at most 50 rows, with the number of omitted rows; all text is escaped."""
    head = _html_row("th", columns)
    all_rows = list(rows)
    body = "".join(_html_row("td", row) for row in all_rows[:_MAX_ROWS])
    hidden = len(all_rows) - _MAX_ROWS
    if hidden > 0:
        body += f'<tr><td colspan="{len(columns)}">… and {hidden:,} more</td></tr>'
    return f"<table><caption>{_html(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def _html_row(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_html(cell)}</{tag}>' for cell in cells)}</tr>"


def _html(cell: object) -> str:
    return "" if cell is None else escape_html(str(cell), _MAX_CELL_LENGTH)


def escape_html(text: str, max_length: int = 80) -> str:
    """Return untrusted text as one short line, escaped for HTML and SVG."""
    import html  # noqa: PLC0415 - it loads a table of entities that a script does not need

    return html.escape(clip(one_line(text), max_length))
