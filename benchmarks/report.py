"""Reports: tables and JSON."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from . import sync
from .measure import Contest, Row, quartiles, summary

_TIME_SCALES = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))
_PEERS = ("prime", "pydantic", "httpx", "requests", "anyio", "typer", "skypilot")


def machine() -> str:
    """Return a description of the machine and the versions."""
    versions = [f"primepods {importlib.metadata.version('primepods')}"] if _is_installed("primepods") else []
    versions += [f"{name} {importlib.metadata.version(name)}" for name in _PEERS if _is_installed(name)]
    return f"{sync.machine()}; {', '.join(versions)}"


def missing_peers() -> list[str]:
    """Return the peers that are not installed."""
    return [name for name in ("orjson", "prime", "httpx", "requests", "typer") if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=name))


def table_row(row: Row) -> str:
    """Return one row of the table."""
    against = f"{_format_samples(row.other, row.unit)} ({row.against})" if row.other else ""
    ratio = _ratio(row.values) if row.other else ""
    verdict = "" if row.is_met is None else f"{row.target}: {'met' if row.is_met else 'NOT MET'}"
    return f"| {row.what} | {_format_samples(row.ours, row.unit)} | {against} | {ratio} | {verdict} |"


HEAD = "| what | primepods | against | ratio | target |\n|---|---|---|---|---|"


def contest_table(contest: Contest) -> list[str]:
    """Return a table of all clients' medians, with their ratios to ours."""
    ours = contest.clients["primepods"]
    lines = ["", f"| {contest.what} | median | times ours |", "|---|---|---|"]
    for name, samples in sorted(contest.clients.items(), key=lambda item: statistics.median(item[1])):
        pairs = [theirs / own for theirs, own in zip(samples, ours, strict=True)]
        lines.append(f"| {name} | {_format_samples(samples, 's')} | {_ratio(pairs)} |")
    return lines


def _format_samples(samples: Sequence[float], unit: str) -> str:
    """Return the median and, in brackets, the quartiles, with their unit."""
    first, third = quartiles(samples)
    median = statistics.median(samples)
    scale, scaled_unit = _time_scale(median) if unit == "s" else (1.0, unit)
    digits = 0 if unit == "B" else 2
    text = f"{median * scale:,.{digits}f}"
    if third > first:
        text += f" [{first * scale:,.{digits}f}, {third * scale:,.{digits}f}]"
    return f"{text} {scaled_unit}".strip()


def _time_scale(seconds: float) -> tuple[float, str]:
    """Return a unit of time in which the number is at least 1, and how many of it are a second."""
    large_enough = (scale for scale in _TIME_SCALES if seconds * scale[0] >= 1)
    return next(large_enough, _TIME_SCALES[-1])


def _ratio(values: Sequence[float]) -> str:
    first, third = quartiles(values)
    return f"{statistics.median(values):.2f} [{first:.2f}, {third:.2f}]"


def as_json(rows: Iterable[Row], contests: Iterable[Contest]) -> dict[str, Any]:
    """Return all results as JSON."""
    return {
        "machine": machine(),
        "absent": missing_peers(),
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
        found |= {"target": str(row.target), "met": row.is_met}
    return found
