"""The state of the emulated account, and the only things that can happen to it.

Nothing ticks in the background. Every entry point first *settles* the world: it applies what fell due since
the last one, at the moment it fell due. Callers hold `lock` around everything they do here: the server's
thread and the thread of the test meet in this class.
"""

import heapq
import math
import threading
from collections.abc import Iterator
from itertools import islice
from random import Random

from attrs import Factory, define, field

from primepods.emulator.catalog import GPUS, PROVIDERS
from primepods.emulator.clock import Clock
from primepods.emulator.pods import Nature, PodOverrides, PodRecord, bear
from primepods.emulator.timeline import ACTIVE, DELETING, TERMINATED
from primepods.emulator.wire import HistoryRow

OTHER_KINDS = (
    "Instance",
    "Instance",
    "Instance",
    "Cluster",
    "Disk",
    "Sandbox",
    "Inference",
    "Image",
    "Training",
)


@define(kw_only=True, eq=False)
class World:
    """The account's pods and history."""

    clock: Clock
    nature: Nature
    delete_seconds: float
    pods: dict[str, PodRecord] = Factory(dict[str, PodRecord])
    """Those that list, get and status know, oldest first: the order of the list."""
    history: list[HistoryRow] = Factory(list[HistoryRow])
    lock: threading.RLock = Factory(threading.RLock)
    _born: int = 0
    _leaving: list[tuple[float, str]] = field(factory=list[tuple[float, str]])

    def seed_pods(self, count: int) -> None:
        """Bear `count` pods now, of which the failure rate's exact share will fail."""
        unlucky = round(count * self.nature.failure_rate)
        doomed = set(Random(f"{self.nature.seed}:doomed").sample(range(count), unlucky))
        now = self.clock.now()
        for index in range(count):
            self._enter(bear(self.nature, self._number(), now, doomed=index in doomed))

    def seed_history(self, count: int) -> None:
        """Put `count` rows of all kinds into the history, from the weeks before the clock's start."""
        rng = Random(f"{self.nature.seed}:history")
        self.history.extend(_past(rng, number) for number in range(count))

    def add(self, name: str | None, wishes: PodOverrides) -> PodRecord:
        """Bear one pod now; raises `ValueError` if its id is taken."""
        record = bear(self.nature, self._number(), self.settle(), name=name, wishes=wishes)
        if record.id in self.pods:
            msg = f"the emulator has a pod {record.id!r} already"
            raise ValueError(msg)
        self._enter(record)
        return record

    def find(self, pod_id: str) -> PodRecord | None:
        """The pod with this id, unless there is none or it is gone."""
        self.settle()
        return self.pods.get(pod_id)

    def page(self, offset: int, limit: int) -> Iterator[PodRecord]:
        """The pods of one page."""
        first = min(offset, len(self.pods))
        return islice(self.pods.values(), first, first + limit)

    def delete(self, record: PodRecord) -> str:
        """Delete as the API does, in `delete_seconds`; returns the state that the API answers."""
        now = self.settle()
        if record.delete_asked is None:
            record.delete_asked = now
            self._leave(record, now + self.delete_seconds)
        return DELETING if record.id in self.pods else TERMINATED

    def vanish(self, record: PodRecord) -> None:
        """Take the pod away at once, as a provider does."""
        self._leave(record, self.settle())

    def settle(self) -> float:
        """Apply all that fell due until now; returns now."""
        now = self.clock.now()
        while self._leaving and self._leaving[0][0] <= now:
            gone, pod_id = heapq.heappop(self._leaving)
            record = self.pods.get(pod_id)
            # A pod that was to leave later and vanished earlier stands in the heap twice.
            if record is not None and record.gone == gone:
                del self.pods[pod_id]
                self.history.append(_ended(record, gone))
        return now

    def _number(self) -> int:
        self._born += 1
        return self._born

    def _enter(self, record: PodRecord) -> None:
        self.pods[record.id] = record

    def _leave(self, record: PodRecord, when: float) -> None:
        record.gone = when
        heapq.heappush(self._leaving, (when, record.id))
        self.settle()


def billed(record: PodRecord, until: float) -> float:
    """What the pod has cost by `until`: each begun minute since it was ACTIVE, at its price.

    Provisioning is free.
    """
    active = next((step.at for step in record.timeline if step.stage.status == ACTIVE), math.inf)
    used = until - record.created - active
    return round(math.ceil(used / 60) * record.price_hr / 60, 6) if used > 0 else 0.0


def _ended(record: PodRecord, gone: float) -> HistoryRow:
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


def _past(rng: Random, number: int) -> HistoryRow:
    kind = rng.choice(OTHER_KINDS)
    gpu = rng.choice(GPUS)
    created = -float(rng.randint(2 * 86400, 30 * 86400))
    lifetime = float(rng.randint(300, 86400))
    price = round(gpu.price * rng.uniform(0.8, 1.2), 2)
    has_gpu = kind not in {"Disk", "Sandbox", "Image"}
    return HistoryRow(
        id=f"{rng.getrandbits(128):032x}",
        name=f"old-{kind.lower()}-{number:05d}",
        provider=rng.choice(PROVIDERS).name,
        type=kind,
        created=created,
        terminated=None if kind == "Sandbox" else created + lifetime,
        gpu_name=gpu.name if has_gpu else "CPU_NODE",
        gpu_count=rng.choice((1, 2, 8)) if has_gpu else 0,
        socket=gpu.socket if has_gpu else None,
        price_hr=price,
        team_id=None,
        billed=round(price * lifetime / 3600, 6),
    )
