"""Output of models as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from textwrap import fill
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar, cast

import attrs

import primepods

from .errors import CommandError, ExitCode
from .options import flag, option
from .table import Cell, Column, print_table, terminal_width, write, write_ids
from .text import printable, shorten_ids

Row = Mapping[str, Any]
_ID: Final = "id"
_FORMULA_PREFIXES: Final = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes that make a spreadsheet treat a cell as a formula."""


class Model(Protocol):
    """Protocol of the objects that can be printed."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T")
M = TypeVar("M", bound=Model)


class Output(StrEnum):
    """Values of ``--output``."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


OutputOption = Annotated[
    Output,
    option("table, json, jsonl or csv.", "FORMAT", "--output", "-o", "--format", case_sensitive=False),
]
LimitOption = Annotated[int | None, option("Maximum number of rows.", "NUMBER", "--limit", "-L", "-n", min=1)]


@attrs.frozen(kw_only=True)
class PrintOptions:
    """Options that control how models are printed."""

    output: OutputOption = Output.TABLE
    columns: Annotated[
        str | None,
        option("Columns of the table, or fields of the other formats, such as id,name.", "A,B"),
    ] = None
    full_ids: Annotated[
        bool,
        flag("Do not shorten ids in a terminal (elsewhere, they are whole).", "--full-ids", "--no-trunc"),
    ] = False
    ids_only: Annotated[bool, flag("Print only the ids, one per line.", "--ids", "--quiet", "-q")] = False

    @property
    def is_table(self) -> bool:
        return self.output is Output.TABLE and not self.ids_only


@attrs.frozen(kw_only=True)
class ModelTable(Generic[M]):
    """Table of models of one kind.

    Attributes:
        empty_model: Returns an empty model, whose ``to_dict()`` has the field names of JSON and CSV.
        id_of: Returns a model's id.
        cells: For each column, a function that returns a model's cell.
        totals: Returns the texts of the last row, by column name; ``None`` for a table without such a row.
    """

    empty_model: Callable[[], M]
    id_of: Callable[[M], str]
    cells: Mapping[Column, Callable[[M], str | Cell]]
    totals: Callable[[Sequence[M]], Mapping[str, str]] | None = None

    def check(self, print_options: PrintOptions) -> list[str]:
        """Return the names of the columns or fields to print. Commands call this before they send requests.

        Raises:
            CommandError: ``--columns`` has an unknown name.
        """
        if print_options.is_table:
            names = [column.name for column in self.cells]
        else:
            names = list(self.empty_model().to_dict())
        if print_options.columns is None:
            return names
        by_spelling = {_spelling(name): name for name in names}
        words = [word.strip().lower() for word in print_options.columns.split(",")]
        unknown = [word for word in words if _spelling(word) not in by_spelling]
        if unknown:
            text = f"--columns has an unknown name {unknown[0]!r}. Known names: {', '.join(names)}"
            raise CommandError(text, ExitCode.USAGE)
        return list(dict.fromkeys(by_spelling[_spelling(word)] for word in words))

    def print(
        self,
        models: Sequence[M],
        print_options: PrintOptions,
        *,
        other_ids: Iterable[str] = (),
        err: bool = False,
    ) -> None:
        """Print models; print no table if there are none.

        Args:
            models: The models.
            print_options: The options of the command line.
            other_ids: Further ids; shortened ids are long enough to differ from these, too.
            err: Whether a table goes to stderr.
        """
        names = self.check(print_options)
        if print_options.ids_only:
            write_ids(map(self.id_of, models))
        elif not print_options.is_table:
            dicts = (model.to_dict() for model in models)
            write_rows([{name: row[name] for name in names} for row in dicts], print_options.output, names)
        elif models:
            short_ids: Mapping[str, str] = {}
            if not print_options.full_ids and terminal_width(err=err) is not None:
                short_ids = shorten_ids([*map(self.id_of, models), *other_ids])
            by_name = {column.name: column for column in self.cells}
            columns = [by_name[name] for name in names]

            def cell(model: M, column: Column) -> str | Cell:
                text = self.cells[column](model)
                return short_ids.get(text, text) if isinstance(text, str) and column.name == _ID else text

            rows = [[cell(model, column) for column in columns] for model in models]
            totals: Mapping[str, str] = {} if self.totals is None else self.totals(models)
            total = [totals.get(name, "") for name in names] if totals else []
            if print_options.columns:
                # A column that the user named is never left out.
                columns = [attrs.evolve(column, rank=0) for column in columns]
            print_table(columns, rows, total=total, err=err)


@contextmanager
def readable_rows(items: Iterable[T]) -> Generator[list[T]]:
    """Yield the readable rows of a pager; raise the error about the others after the block.

    If no row is readable, raise the error before the block.
    """
    found: list[T] = []
    error: primepods.ProtocolError | None = None
    try:
        found.extend(items)  # keeps the items before an error
    except primepods.ProtocolError as exc:
        if not found:
            raise
        error = exc
    yield found
    if error is not None:
        raise error


def print_model(model: Model, output: Output) -> None:
    """Print one model as an object, as a row of CSV, or as lines of the fields that have a value."""
    row = model.to_dict()
    if output is Output.TABLE:
        fields = {name: _as_text(value) for name, value in row.items() if value not in (None, [], {})}
        size = max(map(len, fields)) + 2
        for name, value in fields.items():
            line = f"{name:{size}}{printable(value, max_length=sys.maxsize)}"
            write(fill(line, terminal_width() or sys.maxsize, subsequent_indent=" " * size) + "\n")
    elif output is Output.JSON:
        write(json.dumps(row, indent=2) + "\n")
    else:
        write_rows([row], output, list(row))


def print_ordered(model: primepods.Pod | primepods.Disk, output: Output) -> None:
    """Print a new pod or disk: only its id for ``table``, all fields in the other formats."""
    if output is Output.TABLE:
        write_ids([model.id])
    else:
        print_model(model, output)


def write_rows(rows: Sequence[Row], output: Output, fields: Sequence[str]) -> None:
    """Write rows as JSON, JSON lines, or CSV with a header row."""
    match output:
        case Output.JSON:
            # One line per row, for `grep` and `diff`.
            lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
            write(f"[\n{lines}\n]\n" if rows else "[]\n")
        case Output.CSV:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(fields)
            writer.writerows([_csv_cell(row[field]) for field in fields] for row in rows)
            write(text.getvalue())
        case _:
            write("".join(json.dumps(row) + "\n" for row in rows))


def _csv_cell(value: object) -> object:
    """Return a value as a cell of CSV; objects, lists and booleans as JSON.

    Put ``'`` before text that a spreadsheet would treat as a formula: pod names may come from other team
    members, and are not trusted. Replace control characters if stdout is a terminal.
    """
    if isinstance(value, dict | list | bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    text = printable(value, max_length=len(value)) if sys.stdout.isatty() else value
    return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text


def _spelling(name: str) -> str:
    """Normalize a name of ``--columns``: ``PRICE/H``, ``price_hr`` and ``cost_per_hr`` become ``price``."""
    words = name.lower().replace("-", "_").replace(" ", "_")
    return words.removesuffix("/h").removesuffix("_hr").replace("cost_per", "price")


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        if "command" in parts:
            # An ssh target: its command contains the other parts.
            return str(parts["command"])
        return ", ".join(f"{name} {_as_text(part)}" for name, part in parts.items() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(_as_text, cast("Any", value)))
    return str(value)
