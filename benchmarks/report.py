"""Reports: tables and JSON."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from . import sync
from .measure import Contest, Row, spread, summary

_SCALES = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))
_PEERS = ("prime", "pydantic", "httpx", "requests", "anyio", "typer")


def machine() -> str:
    """Return a description of the machine and the versions."""
    versions = [f"primepods {importlib.metadata.version('primepods')}"] if _is_installed("primepods") else []
    versions += [f"{name} {importlib.metadata.version(name)}" for name in _PEERS if _is_installed(name)]
    return f"{sync.machine()}; {', '.join(versions)}"


def absent() -> list[str]:
    """Return the peers that are not installed."""
    return [name for name in ("orjson", "prime", "httpx", "requests", "typer") if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=name))


def line(row: Row) -> str:
    """Return one row of the table."""
    against = f"{_figure(row.other, row.unit)} ({row.against})" if row.other else ""
    ratio = _ratio(row.values) if row.other else ""
    verdict = "" if row.met is None else f"{row.target}: {'met' if row.met else 'NOT MET'}"
    return f"| {row.what} | {_figure(row.ours, row.unit)} | {against} | {ratio} | {verdict} |"


HEAD = "| what | primepods | against | ratio | target |\n|---|---|---|---|---|"


def contest_lines(contest: Contest) -> list[str]:
    """Return a table of all clients' medians, with their ratios to ours."""
    ours = contest.clients["primepods"]
    lines = ["", f"| {contest.what} | median | times ours |", "|---|---|---|"]
    for name, samples in sorted(contest.clients.items(), key=lambda item: statistics.median(item[1])):
        pairs = [theirs / own for theirs, own in zip(samples, ours, strict=True)]
        lines.append(f"| {name} | {_figure(samples, 's')} | {_ratio(pairs)} |")
    return lines


def _figure(samples: Sequence[float], unit: str) -> str:
    first, third = spread(samples)
    median = statistics.median(samples)
    scale, shown, digits = 1.0, unit, 2
    if unit == "s":
        scale, shown = next(scale for scale in _SCALES if median * scale[0] >= 1 or scale[1] == "µs")
    if unit == "B":
        digits = 0
    text = f"{median * scale:,.{digits}f}"
    if third > first:
        text += f" [{first * scale:,.{digits}f}, {third * scale:,.{digits}f}]"
    return f"{text} {shown}".strip()


def _ratio(values: Sequence[float]) -> str:
    first, third = spread(values)
    return f"{statistics.median(values):.2f} [{first:.2f}, {third:.2f}]"


def as_json(rows: Iterable[Row], contests: Iterable[Contest]) -> dict[str, Any]:
    """Return all results as JSON."""
    return {
        "machine": machine(),
        "absent": absent(),
        "rows": [_row_as_json(row) for row in rows],
        "contests": [
            {
                "what": contest.what,
                "clients": {name: summary(samples) for name, samples in contest.clients.items()},
            }
            for contest in contests
        ],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"key": row.key, "what": row.what, "unit": row.unit, "ours": summary(row.ours)}
    if row.other:
        found |= {"against": row.against, "other": summary(row.other), "ratio": summary(row.values)}
    if row.target is not None:
        found |= {"target": str(row.target), "met": row.met}
    return found
