"""Pods as rows of a table, and in the words that people use about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import primepods

from ._durations import age, short_duration
from ._table import Cell, Column, print_table
from ._text import count

_COLOURS = {
    "ACTIVE": "green",
    "ERROR": "red",
    "PROVISIONING": "yellow",
    "PENDING": "yellow",
    "DELETING": "bright_black",
    "TERMINATED": "bright_black",
    "STOPPED": "bright_black",
}


def print_pods(pods: Sequence[primepods.Pod], *, err: bool = False) -> None:
    """Print a table of pods, with what all cost an hour below; on stderr if it is not what was asked for."""
    gpus = sum(pod.gpu_count for pod in pods)
    totals = {
        "ID": count(pods, "pod"),
        "GPU": f"{gpus:,} GPU{'' if gpus == 1 else 's'}",
        "PRICE/H": price(math.fsum(pod.price_hr for pod in pods)),
    }
    rows = [[cell(pod) for cell in _CELLS.values()] for pod in pods]
    print_table(tuple(_CELLS), rows, total=[totals.get(column.title, "") for column in _CELLS], err=err)


def price(value: float | None) -> str:
    """Return a price as a table shows it."""
    return "" if value is None else f"{value:,.2f}"


def status_cell(status: str | None) -> Cell:
    """Return a pod's state, in its colour."""
    return Cell(status or "", _COLOURS.get(status or ""))


def readiness(pod: primepods.Pod | primepods.PodStatus) -> Cell:
    """Return how near a pod is to being of use."""
    if pod.is_ready:
        return Cell("yes", "green")
    if pod.has_failed:
        return Cell("failed", "red")
    if pod.status == primepods.PodState.ACTIVE and pod.installation_progress is not None:
        return Cell(f"{pod.installation_progress} %", "yellow")
    return Cell("no")


def _age(pod: primepods.Pod) -> str:
    seconds = age(pod.created_at)
    return "" if seconds is None else short_duration(seconds)


_CELLS: dict[Column, Callable[[primepods.Pod], str | Cell]] = {
    Column("ID"): lambda pod: pod.id,
    Column("NAME", least=8, rank=1): lambda pod: pod.name or "",
    Column("STATUS", least=9): lambda pod: status_cell(pod.status),
    Column("READY", rank=3): readiness,
    Column("GPU"): lambda pod: f"{pod.gpu_count} x {pod.gpu_name}",
    Column("PRICE/H", right=True): lambda pod: price(pod.price_hr),
    Column("AGE", right=True, rank=2): _age,
    Column("PROVIDER", rank=6): lambda pod: pod.provider_type,
    Column("TEAM", rank=7): lambda pod: pod.team_id or "",
    Column("SSH", rank=5): lambda pod: "" if pod.ssh is None else str(pod.ssh),
}
"""What a pod shows in each column."""
