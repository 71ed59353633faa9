"""Data on stdout, in the form that was asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar, cast

import typer

from ._table import Column, has_colour, render_table, write

Row = Mapping[str, Any]


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
    typer.Option("--output", "-o", help="table, json, jsonl or csv.", metavar="FORM", case_sensitive=False),
]


def print_models(models: Sequence[M], output: Output, table: Callable[[Sequence[M]], None]) -> None:
    """Print what the client returned; nothing as a table where there is nothing.

    Args:
        models: What to print.
        output: The form.
        table: Prints it as a table.
    """
    if output is not Output.TABLE:
        write_rows([model.to_dict() for model in models], output)
    elif models:
        table(models)


def print_model(model: Model, output: Output) -> None:
    """Print one: each field on a line, or as one object."""
    row = model.to_dict()
    if output is Output.TABLE:
        known = [(name, _as_text(value)) for name, value in row.items() if value not in (None, [], {})]
        write(render_table((Column("FIELD"), Column("VALUE")), known, width=None, colour=has_colour()))
    elif output is Output.JSON:
        write(json.dumps(row, indent=2) + "\n")
    else:
        write_rows([row], output)


def write_rows(rows: Sequence[Row], output: Output) -> None:
    """Print rows as JSON, JSON lines or CSV, in which no rows are no line at all."""
    match output:
        case Output.JSON:
            # A row a line: `indent` would take four times as long.
            lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
            write(f"[\n{lines}\n]\n" if rows else "[]\n")
        case Output.CSV:
            write(_csv(rows))
        case _:
            write("".join(json.dumps(row) + "\n" for row in rows))


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = list(rows[0]) if rows else []
    writer.writerows([fields, *([_cell(row[field]) for field in fields] for row in rows)] if rows else [])
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a value as a cell of CSV holds it: what has parts as JSON, truth as JSON has it."""
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


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
