"""The items of a run, and their results: two files in the run's folder.

The first has the items, one a line. The second has a line for each item that has ended.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .._utils.files import append_line, read_objects, read_path, replace_file
from .._utils.text import quote
from ._run import Run, RunRecord

if TYPE_CHECKING:
    from pathlib import Path

MAX_SIZE: Final = 16 << 20
"""Max size of all items, in bytes."""
_FIELD: Final = re.compile(r"\{\{(\w*)\}\}|(?<!\$)\{(\w*)\}")
"""A field in a command, such as ``{}`` or ``{name}``, or with two braces one to leave; never ``${name}``."""
_JSON: Final = json.JSONDecoder(parse_int=float)
"""Decodes integers of any length: their text is used."""
_ITEMS: Final = "items"
_RESULTS: Final = "results"
"""Names of files in the folder of a run."""


def fill_command(command: str | list[str], item: str) -> str | list[str]:
    """Return the command of an item: with the item for ``{}``, and with its fields for ``{name}``.

    In a line for the shell, the values are quoted.

    Args:
        command: The command, as for ``pod.start``.
        item: The item's line. A JSON object has fields, and a JSON string is the item without its quotes.

    Raises:
        ValueError: The item has no such field.
    """
    fields, why = {"": item}, "it"
    try:
        value: Any = _JSON.decode(item)
    except (ValueError, RecursionError):
        why = "it is not JSON, so it"
    else:
        if isinstance(value, str):
            fields = {"": value}
        elif isinstance(value, dict):
            fields |= _read_fields(item)

    def fill(word: str, *, is_quoted: bool = False) -> str:
        def replace(match: re.Match[str]) -> str:
            left, name = match.groups()
            if left is not None:
                return f"{{{left}}}"
            if name not in fields:
                raise ValueError(f"{why} has no field {name!r}, which the command names: {quote(item)}")
            return shlex.quote(fields[name]) if is_quoted else fields[name]

        return _FIELD.sub(replace, word)

    return fill(command, is_quoted=True) if isinstance(command, str) else [fill(word) for word in command]


def _read_fields(text: str) -> dict[str, str]:
    """Return the values of a JSON object as its text has them; strings without their quotes."""
    fields: dict[str, str] = {}
    end = 0
    while (start := text.find('"', end)) >= 0:
        name, end = _JSON.raw_decode(text, start)
        begin = text.index(":", end) + 1
        while text[begin].isspace():
            begin += 1
        value, end = _JSON.raw_decode(text, begin)
        fields[name] = value if isinstance(value, str) else text[begin:end]
    return fields


def create_run(record: RunRecord, items: Iterable[str]) -> Run:
    """Create a run of many items, and lock it for this process; see :meth:`Run.create`."""
    run = Run.create(record)
    try:
        (run.path / _RESULTS).touch(mode=0o600)
        # Its name is synced with that of the items.
        replace_file(run.path / _ITEMS, "\n".join(items).encode())
    except BaseException:
        run.remove()
        raise
    return run


class Items:
    """The items of a run, and the results of those that have ended.

    Attributes:
        lines: The items.
        results: The exit codes by the item's number, which counts from 1.
    """

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = read_path(folder / _ITEMS).decode().split("\n")
        self.results: dict[int, int] = _read_results(folder / _RESULTS)
        self._file = folder / _RESULTS
        self._unwritten: list[int] = []

    @property
    def left(self) -> list[int]:
        """Numbers of the items that have no result."""
        return [number for number in range(1, len(self.lines) + 1) if number not in self.results]

    @property
    def failed_count(self) -> int:
        """Number of items that have ended with another exit code than 0."""
        return sum(code != 0 for code in self.results.values())

    def add(self, item: int, exit_code: int) -> None:
        """Add a result, which :meth:`write` writes."""
        self.results[item] = exit_code
        self._unwritten.append(item)

    def write(self) -> None:
        """Append the new results to the file.

        Raises:
            OSError: The file cannot be written; the next call tries again.
        """
        if not self._unwritten:
            return
        file = os.open(self._file, os.O_RDWR)
        try:
            while self._unwritten:
                item = self._unwritten[0]
                append_line(file, json.dumps({"item": item, "exit_code": self.results[item]}).encode())
                del self._unwritten[0]
        finally:
            os.close(file)


def count_items(run: Run) -> tuple[int, int] | None:
    """Return how many items a run has, and how many have ended; ``None`` if it has none, or their files."""
    if run.record.pods:
        with suppress(KeyError, OSError, TypeError, ValueError):
            return read_path(run.path / _ITEMS).count(b"\n") + 1, len(_read_results(run.path / _RESULTS))
    return None


def _read_results(path: Path) -> dict[int, int]:
    file = os.open(path, os.O_RDONLY)
    try:
        return {row["item"]: row["exit_code"] for row in read_objects(file)}
    finally:
        os.close(file)
