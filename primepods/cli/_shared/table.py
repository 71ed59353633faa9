"""Tables of text with cells of limited length, narrowed to the width of a terminal if there is one."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress

import attrs
import typer

from .text import printable

_COLUMN_GAP = 2
_DEFAULT_WIDTH = 80
"""Width of a terminal that does not report its own."""
_CHUNK_LENGTH = 8_192
"""Characters per write, so that output to a closed pipe stops early, with the exit code for that."""
_MINOR_RANK = 2
"""Columns of at least this rank are shown only if no column has to be cut below twice its minimum width."""
_MAX_CELL_LENGTH = 200
_MAX_INFO_LENGTH = 2_000
"""Max characters of an information line, which may end with a path and what to do with it."""
_COMMAND = re.compile("`[^`]*`")
_LAST_RESORT_WIDTH = 2
"""Min width of a column if the table does not fit otherwise."""


@attrs.frozen
class Column:
    """Column of a table.

    Attributes:
        title: Its heading.
        right: Whether to align it to the right, as for numbers.
        min_width: Minimum width if its cells are cut, unless the title is longer. With ``None``, they are cut
            only as a last resort.
        rank: 0 to show it always. In a terminal, the other columns are added in order of rank if they fit and
            are not empty; see also ``_MINOR_RANK``.
    """

    title: str
    right: bool = False
    min_width: int | None = None
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
    columns: Sequence[Column],
    rows: Iterable[Cells],
    *,
    total: Cells = (),
    width: int | None,
    colour: bool,
) -> str:
    """Return a table as lines of text.

    Args:
        columns: The columns.
        rows: The cells of each row.
        total: The last row, with a rule above it; empty for none.
        width: Maximum width of a line, if the columns can be narrowed to it; ``None`` for no limit.
        colour: Whether to use colours and bold text.
    """
    heading = [Cell(column.title, "bold") for column in columns]
    all_rows = [*rows, total] if total else rows
    grid = [heading, *(_clean(row) for row in all_rows)]
    full_widths = [
        max(map(_width, cells)) for cells in zip(*([cell.text for cell in row] for row in grid), strict=True)
    ]
    is_empty = [not any(row[index].text for row in grid[1:]) for index in range(len(columns))]
    widths = _column_widths(columns, full_widths, width, is_empty)
    lines = [_line(row, columns, widths, colour=colour) for row in grid]
    if total:
        lines.insert(-1, (" " * _COLUMN_GAP).join("-" * size for size in widths if size))
    return "".join(f"{line}\n" for line in lines)


def print_table(
    columns: Sequence[Column], rows: Iterable[Cells], *, total: Cells = (), err: bool = False
) -> None:
    """Print a table on stdout (with ``err``, on stderr)."""
    width, colour = terminal_width(err=err), has_colour(err=err)
    write(render_table(columns, rows, total=total, width=width, colour=colour), err=err)


def paint(text: str, colour: str | None) -> str:
    """Return text with the control codes of a colour, of ``bold`` or of ``dim``; unchanged for ``None``."""
    if colour == "bold":
        return typer.style(text, bold=True)
    # A fixed grey would be invisible on some backgrounds.
    if colour == "dim":
        return typer.style(text, dim=True)
    return typer.style(text, fg=colour) if colour else text


def write(text: str, *, err: bool = False) -> None:
    """Write text to stdout (with ``err``, to stderr), and flush it."""
    if not err:
        from .stderr import wait_for_stderr

        wait_for_stderr()
    stream = sys.stderr if err else sys.stdout
    for start in range(0, len(text), _CHUNK_LENGTH):
        stream.write(text[start : start + _CHUNK_LENGTH])
    stream.flush()


def write_ids(ids: Iterable[str]) -> None:
    """Write ids to stdout, one per line."""
    # For a terminal, replace control characters; never cut an id.
    lines = (printable(line, max_length=len(line)) for line in ids) if sys.stdout.isatty() else ids
    write("".join(f"{line}\n" for line in lines))


def print_info(message: str) -> None:
    """Write a line of at most 2,000 characters to stderr; ignore a closed stderr.

    A terminal gets it in lines that end between words, and not within a command, which is to be copied whole.
    """
    with suppress(OSError, ValueError):
        write(
            f"{wrap_words(printable(message, max_length=_MAX_INFO_LENGTH), terminal_width(err=True))}\n",
            err=True,
        )


def wrap_words(line: str, width: int | None, *, indent: int = 0) -> str:
    """Return a line in lines of a width that end between words, and not within a command.

    The lines after the first one are indented. With ``None`` for a width, return the line.
    """
    if width is None:
        return line
    line = _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), line)
    line = textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return line.replace("\0", " ")


def terminal_width(*, err: bool = False) -> int | None:
    """Return the width of the terminal on stdout (or stderr); ``None`` if the stream is not a terminal."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    try:
        # Some terminals report 0.
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
    except OSError:
        return _DEFAULT_WIDTH


def has_colour(*, err: bool = False) -> bool:
    """Return whether stdout (with ``err``, stderr) is a terminal with colours."""
    if not (sys.stderr if err else sys.stdout).isatty():
        return False
    from primepods.config import environment_variable

    terminal = environment_variable("TERM") or ""
    return not environment_variable("NO_COLOR") and terminal.lower() not in {"dumb", "unknown"}


def _clean(row: Cells) -> list[Cell]:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    return [attrs.evolve(cell, text=printable(cell.text, max_length=_MAX_CELL_LENGTH)) for cell in cells]


def _column_widths(
    columns: Sequence[Column], full_widths: Sequence[int], max_width: int | None, is_empty: Sequence[bool]
) -> list[int]:
    """Return the width of each column; 0 for a column that is left out, see ``Column.rank``."""
    if max_width is None:
        return list(full_widths)
    min_widths = [
        full if column.min_width is None else min(full, max(column.min_width, len(column.title)))
        for column, full in zip(columns, full_widths, strict=True)
    ]
    readable_widths = [min(full, 2 * least) for full, least in zip(full_widths, min_widths, strict=True)]
    kept = {index for index, column in enumerate(columns) if column.rank == 0}

    for index in sorted(range(len(columns)), key=lambda index: columns[index].rank):
        needed = min_widths if columns[index].rank < _MINOR_RANK else readable_widths
        if not is_empty[index] and _line_width([needed[i] for i in {*kept, index}]) <= max_width:
            kept.add(index)
    widths = [full if index in kept else 0 for index, full in enumerate(full_widths)]
    # Narrow the columns to each of these limits in turn, until the table fits.
    for lower_limits in (readable_widths, min_widths, [_LAST_RESORT_WIDTH] * len(widths)):
        _narrow(widths, lower_limits, max_width)
    return widths


def _narrow(widths: list[int], lower_limits: Sequence[int], max_width: int) -> None:
    """Narrow the widest columns in place until the table fits, or all have reached their limits."""
    while _line_width(widths) > max_width:
        reducible = [index for index, size in enumerate(widths) if size > lower_limits[index]]
        if not reducible:
            break
        widest = max(reducible, key=lambda index: widths[index])
        widths[widest] -= 1


def _line_width(widths: Iterable[int]) -> int:
    """Return the width of a line of the table, with the gaps between its columns."""
    kept = [size for size in widths if size]
    return sum(kept) + _COLUMN_GAP * (len(kept) - 1)


def _line(row: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], *, colour: bool) -> str:
    cells = [
        _pad(cell, column, width, colour=colour)
        for cell, column, width in zip(row, columns, widths, strict=True)
        if width
    ]
    return (" " * _COLUMN_GAP).join(cells).rstrip()


def _pad(cell: Cell, column: Column, width: int, *, colour: bool) -> str:
    text = cell.text
    if _width(text) > width:
        from rich.cells import set_cell_size

        text = set_cell_size(text, width - 1) + "…"
    space = " " * (width - _width(text))
    shown = paint(text, cell.colour) if colour else text
    return space + shown if column.right else shown + space


def _width(text: str) -> int:
    """Return the width of a text in the terminal; wide characters take two columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
