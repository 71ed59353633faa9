"""Table of pods, and its cells: prices, states, readiness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import attrs

import primepods
from primepods._utils.money import money

from .durations import short_age
from .output import ModelTable
from .table import Cell, Column
from .text import count

_COLOURS = {
    "ACTIVE": "green",
    "ERROR": "red",
    "PROVISIONING": "yellow",
    "PENDING": "yellow",
    "DELETING": "dim",
    "TERMINATED": "dim",
    "STOPPED": "dim",
}


def read_names(client: primepods.Client) -> dict[str, str]:
    """Return the names of pods, also of recently deleted ones, and of disks, by id, if they can be read."""
    names: dict[str, str] = {}
    for read in (client.pods.history_page, client.disks.list, client.pods.list):
        with suppress(primepods.PrimePodsError):
            names |= {row.id: row.name for row in read() if row.name}
    return names


def status_cell(status: str | None) -> Cell:
    """Return the coloured cell of the state of a pod or disk."""
    return Cell(status or "", _COLOURS.get(status or ""))


def readiness(pod: primepods.Pod | primepods.PodStatus) -> Cell:
    """Return the cell that says whether a pod is ready, or how far its installation is."""
    if pod.is_ready:
        return Cell("yes", "green")
    if pod.has_failed:
        return Cell("failed", "red")
    if pod.status == primepods.PodState.ACTIVE and pod.installation_progress is not None:
        return Cell(f"{pod.installation_progress} %", "yellow")
    return Cell("no")


def _totals(pods: Sequence[primepods.Pod]) -> dict[str, str]:
    gpus = sum(pod.gpu_count for pod in pods if pod.has_gpu("*"))
    return {
        "id": count(pods, "pod"),
        "gpu": "1 GPU" if gpus == 1 else f"{gpus:,} GPUs",
        "price": money(math.fsum(pod.price_hr for pod in pods)),
    }


PODS: Final = ModelTable(
    empty_model=lambda: primepods.Pod(id="", gpu_name="", gpu_count=0, price_hr=0.0, provider_type=""),
    id_of=lambda pod: pod.id,
    cells={
        Column("ID"): lambda pod: pod.id,
        Column("NAME", min_width=8, rank=1): lambda pod: pod.name or "",
        Column("STATUS", min_width=8): lambda pod: status_cell(pod.status),
        Column("READY", rank=1): readiness,
        Column("GPU", rank=2): lambda pod: f"{pod.gpu_count} x {pod.gpu_name}",
        Column("PRICE/H", right=True): lambda pod: money(pod.price_hr),
        Column("AGE", right=True, rank=3): lambda pod: short_age(pod.created_at),
        Column("PROVIDER", rank=5): lambda pod: pod.provider_type,
        Column("TEAM", min_width=8, rank=6): lambda pod: pod.team_id or "",
        Column("SSH", rank=4): lambda pod: "" if pod.ssh is None else str(pod.ssh),
    },
    totals=_totals,
)


def team_table(owners: Mapping[str, str]) -> ModelTable[primepods.Pod]:
    """Return the table of a team's pods, which also has their owners: names by id of a user, or ids."""
    cells = list(PODS.cells.items())
    owner = Column("OWNER", min_width=8, rank=1)
    cells.insert(-2, (owner, lambda pod: owners.get(pod.user_id or "", pod.user_id or "")))
    return attrs.evolve(PODS, cells=dict(cells))
