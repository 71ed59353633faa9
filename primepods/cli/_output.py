"""Data on stdout, in the form that the options say."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from textwrap import wrap
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar, cast

import attrs
import typer

from ._errors import CommandError, ExitCode
from ._ids import shorten_ids
from ._table import Cell, Column, has_colour, print_table, render_table, terminal_width, write, write_ids
from ._text import printable

Row = Mapping[str, Any]
_ID: Final = "id"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""


class Model(Protocol):
    """What the client returns."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        ...


M = TypeVar("M", bound=Model)


class Output(StrEnum):
    """What ``--output`` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


OutputOption = Annotated[
    Output,
    typer.Option(
        "--output", "-o", "--format", help="table, json, jsonl or csv.", metavar="FORM", case_sensitive=False
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        help="Only these, such as id,name: columns of the table, or fields of the other forms.",
        metavar="A,B",
    ),
]
FullIdsOption = Annotated[
    bool,
    typer.Option(
        "--full-ids", "--no-trunc", help="Whole ids in a table on a terminal; elsewhere they always are."
    ),
]
IdsOption = Annotated[bool, typer.Option("--ids", "--quiet", "-q", help="Print the ids only, one a line.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-L", "-n", min=1, help="Only so many.", metavar="NUMBER")
]


@attrs.frozen(kw_only=True)
class Form:
    """How models are printed, as the options say.

    Attributes:
        output: ``--output``.
        columns: ``--columns``; empty for all.
        full_ids: ``--full-ids``.
        ids_only: ``--ids``.
    """

    output: Output = Output.TABLE
    columns: str | None = None
    full_ids: bool = False
    ids_only: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether all of each model is printed."""
        return self.columns is None and not self.ids_only

    @property
    def is_table(self) -> bool:
        """Whether a table is printed."""
        return self.output is Output.TABLE and not self.ids_only


@attrs.frozen(kw_only=True)
class ModelTable(Generic[M]):
    """How models of one kind become rows.

    Attributes:
        blank: Return a model without data: its ``to_dict()`` names the fields of JSON and CSV.
        id_of: Return a model's id.
        cells: What a model shows in each column.
        totals: Return the texts of the last row, by their columns' names.
    """

    blank: Callable[[], M]
    id_of: Callable[[M], str]
    cells: Mapping[Column, Callable[[M], str | Cell]]
    totals: Callable[[Sequence[M]], Mapping[str, str]] | None = None

    def chosen(self, form: Form) -> list[str]:
        """Return the names of the columns to show, or of the fields to write.

        Raises:
            CommandError: There is no such column or field.
        """
        names = [column.name for column in self.cells] if form.is_table else list(self.blank().to_dict())
        if form.columns is None:
            return names
        words = [word.strip().lower() for word in form.columns.split(",")]
        unknown = [word for word in words if word not in names]
        if unknown:
            text = f"--columns: there is no {unknown[0]!r}, but {', '.join(names)}"
            raise CommandError(text, ExitCode.USAGE)
        return list(dict.fromkeys(words))

    def print(self, models: Sequence[M], form: Form, *, among: Iterable[str] = (), err: bool = False) -> None:
        """Print models in the form that was asked for; no table where there are none.

        Args:
            models: What to print.
            form: The form.
            among: Further ids, from which those that are shown must differ.
            err: Whether a table goes to stderr.
        """
        names = self.chosen(form)
        if form.ids_only:
            write_ids(map(self.id_of, models))
        elif not form.is_table:
            rows = (model.to_dict() for model in models)
            write_rows([{name: row[name] for name in names} for row in rows], form.output, names)
        elif models:
            self._print_table(models, form, names, among=among, err=err)

    def _print_table(
        self, models: Sequence[M], form: Form, names: Sequence[str], *, among: Iterable[str], err: bool
    ) -> None:
        by_name = {column.name: column for column in self.cells}
        columns = [by_name[name] for name in names]
        ids: Mapping[str, str] = {}
        if not form.full_ids and terminal_width(err=err) is not None:
            ids = shorten_ids([*map(self.id_of, models), *among])

        def cell(model: M, column: Column) -> str | Cell:
            shown = self.cells[column](model)
            return ids.get(shown, shown) if isinstance(shown, str) and column.name == _ID else shown

        totals: Mapping[str, str] = {} if self.totals is None else self.totals(models)
        print_table(
            # What was asked for by name stays.
            [attrs.evolve(column, rank=0) for column in columns] if form.columns else columns,
            [[cell(model, column) for column in columns] for model in models],
            total=[totals.get(name, "") for name in names] if totals else (),
            err=err,
        )


def print_model(model: Model, output: Output) -> None:
    """Print one: each field on a line, or as one object."""
    row = model.to_dict()
    if output is Output.TABLE:
        known = {name: _as_text(value) for name, value in row.items() if value not in (None, [], {})}
        _print_fields(known)
    elif output is Output.JSON:
        write(json.dumps(row, indent=2) + "\n")
    else:
        write_rows([row], output, list(row))


def _print_fields(fields: Mapping[str, str]) -> None:
    """Print each field on a line, or on several where the terminal is too narrow."""
    width, longest = terminal_width(), max(map(len, fields))
    rows: list[tuple[str, str]] = []
    for name, value in fields.items():
        lines = [value] if width is None else wrap(value, max(10, width - longest - 2)) or [""]
        rows += zip([name, *[""] * len(lines)], lines, strict=False)
    write(render_table((Column("FIELD"), Column("VALUE")), rows, width=None, colour=has_colour()))


def write_rows(rows: Sequence[Row], output: Output, fields: Sequence[str]) -> None:
    """Write rows as JSON, JSON lines, or CSV with a heading."""
    match output:
        case Output.JSON:
            # A row a line: `indent` would take four times as long.
            lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
            write(f"[\n{lines}\n]\n" if rows else "[]\n")
        case Output.CSV:
            write(_csv(rows, fields))
        case _:
            write("".join(json.dumps(row) + "\n" for row in rows))


def _csv(rows: Iterable[Row], fields: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([fields, *([_cell(row[field]) for field in fields] for row in rows)])
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a value as a cell of CSV holds it: what has parts as JSON, truth as JSON has it.

    Text that a spreadsheet would take for a formula begins with ``'``, as other exports have it: anybody in a
    team may name a pod. A terminal gets nothing that steers it.
    """
    if isinstance(value, dict | list | bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    text = printable(value, longest=len(value)) if sys.stdout.isatty() else value
    return f"'{text}" if text.startswith(_FORMULA) else text


def _as_text(value: Any) -> str:
    """Return a value on one line: an object's parts by name, a list's one after the other."""
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        if "command" in parts:
            return str(parts["command"])
        return ", ".join(f"{name} {_as_text(part)}" for name, part in parts.items() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(_as_text, cast("Any", value)))
    return str(value)
