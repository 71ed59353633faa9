"""Tables that fit the terminal; in a pipe, tables of any width."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import attrs
import typer

from ._text import printable

_GAP = 2
_USUAL_WIDTH = 80
_PIECE = 8_192
_MINOR_RANK = 2
"""Columns of this rank or above are shown only if the others keep a readable width."""
_MAX_CELL_LENGTH = 200
_LAST_RESORT_WIDTH = 2
"""Width of a column where nothing else fits."""


@attrs.frozen
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        right: Whether to align it to the right, as for numbers.
        least: Minimum width when it is cut; ``None`` to cut it only as a last resort.
        rank: Columns of a lower rank are fitted first; rank 0 is always shown. A column of rank 2 or more is
            left out if it would leave others less than twice their minimum width.
    """

    title: str
    right: bool = False
    least: int | None = None
    rank: int = 0

    @property
    def name(self) -> str:
        """Its name in ``--columns``: ``PRICE/H`` is ``price``."""
        return self.title.lower().removesuffix("/h").replace(" ", "-")


@attrs.frozen
class Cell:
    """Cell of a table: text, and a colour for terminals; see :func:`paint`."""

    text: str
    colour: str | None = None


Cells = Sequence[str | Cell]


def render_table(
    columns: Sequence[Column], rows: Iterable[Cells], *, total: Cells = (), width: int | None, colour: bool
) -> str:
    """Return a table as lines of text.

    Args:
        columns: The columns.
        rows: The cells of each row.
        total: The last row, below a rule.
        width: Maximum characters per line; ``None`` for no limit.
        colour: Whether to colour cells.
    """
    heading = [Cell(column.title, "bold") for column in columns]
    grid = [heading, *(_clean(row) for row in rows), *([_clean(total)] if total else [])]
    natural = [
        max(map(_width, cells)) for cells in zip(*([cell.text for cell in row] for row in grid), strict=True)
    ]
    empty = [not any(row[index].text for row in grid[1:]) for index in range(len(columns))]
    widths = _fit(columns, natural, width, empty)
    lines = [_line(row, columns, widths, colour=colour) for row in grid]
    if total:
        lines.insert(-1, "  ".join("-" * cells for cells in widths if cells))
    return "".join(f"{line}\n" for line in lines)


def print_table(
    columns: Sequence[Column], rows: Iterable[Cells], *, total: Cells = (), err: bool = False
) -> None:
    """Print a table on stdout, or on stderr."""
    width, colour = terminal_width(err=err), has_colour(err=err)
    write(render_table(columns, rows, total=total, width=width, colour=colour), err=err)


def paint(text: str, colour: str | None) -> str:
    """Return text in a colour, ``bold`` or ``dim`` (a fixed grey would be invisible on some backgrounds)."""
    if colour == "bold":
        return typer.style(text, bold=True)
    if colour == "dim":
        return typer.style(text, dim=True)
    return typer.style(text, fg=colour) if colour else text


def write(text: str, *, err: bool = False) -> None:
    """Write to stdout or stderr, and flush."""
    stream = sys.stderr if err else sys.stdout
    # In pieces, to notice a closed pipe early.
    for start in range(0, len(text), _PIECE):
        stream.write(text[start : start + _PIECE])
    stream.flush()


def write_ids(ids: Iterable[str]) -> None:
    """Write ids to stdout, one a line."""
    # Control characters are removed only for a terminal.
    lines = map(printable, ids) if sys.stdout.isatty() else ids
    write("".join(f"{line}\n" for line in lines))


def print_info(message: str) -> None:
    """Write an information line to stderr; ignore a closed stderr."""
    with suppress(OSError, ValueError):
        write(f"{printable(message, max_length=_MAX_CELL_LENGTH)}\n", err=True)


def terminal_width(*, err: bool = False) -> int | None:
    """Return the width of the terminal on stdout or stderr; ``None`` if it is no terminal."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    try:
        # Some terminals report 0.
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def has_colour(*, err: bool = False) -> bool:
    """Return whether stdout or stderr is a terminal with colours."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and _environment_has_colour()


def has_unicode() -> bool:
    """Return whether stdout can show characters beyond ASCII."""
    encoding: str | None = sys.stdout.encoding
    return encoding is None or encoding.lower().startswith("utf")


def _environment_has_colour() -> bool:
    from rich.console import Console

    console = Console(force_terminal=True)
    return not console.no_color and not console.is_dumb_terminal


def _clean(row: Cells) -> list[Cell]:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    return [attrs.evolve(cell, text=printable(cell.text, max_length=_MAX_CELL_LENGTH)) for cell in cells]


def _fit(
    columns: Sequence[Column], natural: Sequence[int], width: int | None, empty: Sequence[bool]
) -> list[int]:
    """Return the width of each column; 0 for one that is left out, such as an empty one."""
    if width is None:
        return list(natural)
    least = [
        size if column.least is None else min(size, max(column.least, len(column.title)))
        for column, size in zip(columns, natural, strict=True)
    ]
    readable = [min(size, 2 * smallest) for size, smallest in zip(natural, least, strict=True)]
    kept = {index for index, column in enumerate(columns) if column.rank == 0}
    for index in sorted(range(len(columns)), key=lambda index: columns[index].rank):
        needed = least if columns[index].rank < _MINOR_RANK else readable
        if not empty[index] and _total([needed[i] for i in {*kept, index}]) <= width:
            kept.add(index)
    widths = [size if index in kept else 0 for index, size in enumerate(natural)]
    for smallest in (readable, least, [_LAST_RESORT_WIDTH] * len(widths)):
        widths = _cut_to(width, widths, smallest)
    return widths


def _cut_to(width: int, widths: list[int], least: Sequence[int]) -> list[int]:
    """Reduce the widest columns, each to its minimum, until the table fits."""
    while _total(widths) > width:
        reducible = [index for index, size in enumerate(widths) if size > least[index]]
        if not reducible:
            break
        widest = max(reducible, key=lambda index: widths[index])
        widths[widest] -= 1
    return widths


def _total(widths: Iterable[int]) -> int:
    kept = [size for size in widths if size]
    return sum(kept) + _GAP * (len(kept) - 1)


def _line(row: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], *, colour: bool) -> str:
    cells = zip(row, columns, widths, strict=True)
    return (" " * _GAP).join(_pad(*cell, colour=colour) for cell in cells if cell[2]).rstrip()


def _pad(cell: Cell, column: Column, width: int, *, colour: bool) -> str:
    text = cell.text if _width(cell.text) <= width else _cut(cell.text, width)
    space = " " * (width - _width(text))
    shown = paint(text, cell.colour) if colour else text
    return space + shown if column.right else shown + space


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    if text.isascii():
        return f"{text[: width - 1]}…"
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1) + "…"
