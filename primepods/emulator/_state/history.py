"""History of paid resources."""

from __future__ import annotations

from random import Random

import attrs

from .billing import billed, cost
from .catalog import GPUS, PROVIDERS
from .pods import PodRecord

# Instances are three times as frequent as any other kind.
KINDS = ("Instance",) * 3 + ("Cluster", "Disk", "Sandbox", "Inference", "Image", "Training")


@attrs.frozen(kw_only=True)
class HistoryRow:
    """A paid resource, such as a pod or a disk. Times are seconds on the emulator's clock."""

    id: str
    name: str
    provider: str
    type: str
    created: float
    terminated: float | None
    gpu_name: str
    gpu_count: int
    socket: str | None
    price_hr: float
    team_id: str | None
    billed: float


def history_row(record: PodRecord, gone: float) -> HistoryRow:
    """Return the history row of a pod that ends at ``gone``."""
    return HistoryRow(
        id=record.id,
        name=record.name,
        provider=record.provider,
        type="Cluster" if record.nodes > 1 else "Instance",
        created=record.created,
        terminated=gone,
        gpu_name=record.gpu_name,
        gpu_count=record.gpu_count,
        socket=record.socket,
        price_hr=record.price_hr,
        team_id=record.team_id,
        billed=billed(record, gone),
    )


def draw_row(rng: Random, number: int) -> HistoryRow:
    """Draw a resource created in the 30 days before the clock's start. Only sandboxes have not ended."""
    kind = rng.choice(KINDS)
    gpu = rng.choice(GPUS)
    created = -float(rng.randint(600, 30 * 86400))
    lifetime = float(rng.randint(300, min(86400, int(-created))))
    has_gpu = kind not in {"Disk", "Sandbox", "Image"}
    count = rng.choice((1, 2, 8)) if has_gpu else 0
    price = round(gpu.price * max(1, count) * rng.uniform(0.8, 1.2), 2)
    return HistoryRow(
        id=f"{rng.getrandbits(128):032x}",
        name=f"old-{kind.lower()}-{number:05d}",
        provider=rng.choice(PROVIDERS).name,
        type=kind,
        created=created,
        terminated=None if kind == "Sandbox" else created + lifetime,
        gpu_name=gpu.name if has_gpu else "CPU_NODE",
        gpu_count=count,
        socket=gpu.socket if has_gpu else None,
        price_hr=price,
        team_id=None,
        billed=cost(lifetime, price),
    )
