"""Pods as rows of a table, and in the words that people use about them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import primepods

from ._durations import age, short_duration
from ._table import Cell, Column, print_table
from ._text import count

COLUMNS = (
    Column("ID"),
    Column("NAME", least=8, rank=1),
    Column("STATUS", least=9),
    Column("READY", rank=3),
    Column("GPU"),
    Column("PRICE/H", right=True),
    Column("AGE", right=True, rank=2),
    Column("PROVIDER", rank=6),
    Column("TEAM", rank=7),
    Column("SSH", rank=5),
)

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
    total = [count(pods, "pod"), "", "", "", f"{gpus:,} GPUs", price(total_price(pods))]
    total += [""] * (len(COLUMNS) - len(total))
    print_table(COLUMNS, [_cells(pod) for pod in pods], total=total, err=err)


def total_price(pods: Sequence[primepods.Pod]) -> float:
    """Return what pods cost an hour together."""
    return math.fsum(pod.price_hr for pod in pods)


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


def _cells(pod: primepods.Pod) -> list[str | Cell]:
    seconds = age(pod.created_at)
    return [
        pod.id,
        pod.name or "",
        status_cell(pod.status),
        readiness(pod),
        f"{pod.gpu_count} x {pod.gpu_name}",
        price(pod.price_hr),
        "" if seconds is None else short_duration(seconds),
        pod.provider_type,
        pod.team_id or "",
        "" if pod.ssh is None else str(pod.ssh),
    ]
