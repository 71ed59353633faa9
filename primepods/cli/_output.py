"""Data on stdout, in the form that was asked for."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

Row = Mapping[str, Any]


class Output(StrEnum):
    """What ``--output`` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print what was found.", case_sensitive=False)
]


def write(text: str) -> None:
    """Write to stdout at once: what comes after may take long, or fail."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_rows(rows: Sequence[Row], output: Output, *, fields: Iterable[str] = ()) -> None:
    """Print rows as JSON, JSON lines or CSV.

    Args:
        rows: What ``to_dict()`` of each model has returned.
        output: The form, which is no table.
        fields: The columns of CSV where there are no rows.
    """
    match output:
        case Output.JSON:
            write(json.dumps(rows, indent=2) + "\n")
        case Output.CSV:
            write(_csv(rows, list(rows[0] if rows else fields)))
        case _:
            write("".join(json.dumps(row) + "\n" for row in rows))


def write_row(row: Row, output: Output) -> None:
    """Print one row: in JSON an object, else as :func:`write_rows`."""
    if output is Output.JSON:
        write(json.dumps(row, indent=2) + "\n")
    else:
        write_rows([row], output)


def _csv(rows: Iterable[Row], fields: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_cell(row[field]) for field in fields] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a value as a cell of CSV holds it: what has parts as JSON, truth as JSON has it."""
    return json.dumps(value) if isinstance(value, dict | list | bool) else value
