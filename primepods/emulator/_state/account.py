"""The emulated account: its pods, disks, history, funds, offers and keys, and the operations on them.

Nothing runs in the background. ``Account.catch_up`` applies the changes that are due. Methods call it before
they use pods, disks or funds, except ``existing``, ``remaining_stock``, ``users_of`` and ``add``: call it
before those. The server's thread and the test's thread share an account. ``Api`` holds ``lock`` while it
handles a request; the methods for tests and control routes acquire it, except ``advance``.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping

import attrs

from ..clock import Clock, ManualClock
from .billing import billed, used_up_at
from .boot import DELETING, TERMINATED
from .config import EmulatorConfig, check_amount
from .creation import BootOutcome, create_pod
from .disks import DiskRecord
from .history import HistoryRow, draw_row, history_row
from .market import DiskOffer, Market
from .pods import MAX_NODES, PodOverrides, PodRecord
from .randomness import random_for
from .ssh_keys import KeyRing

TEAM_ID = "clemulator0002team"
_UNLIMITED = 1_000_000.0
"""Balance of the wallet before any cost, if the funds are unlimited."""

Scope = Mapping[str, Mapping[str, bool] | None]
"""Permissions of a key, by kind of resource."""


@attrs.frozen
class AccountView:
    """Pods and history as the API shows them, now or, on a stale replica, at an earlier time."""

    now: float
    pods: Mapping[str, PodRecord]
    history: list[HistoryRow]


class Account:
    def __init__(self, config: EmulatorConfig, clock: Clock) -> None:
        self.config: EmulatorConfig = config
        self.clock: Clock = clock
        self.lock: threading.RLock = threading.RLock()
        self.market: Market = Market(config.seed, config.stock)
        self.scopes: dict[str, Scope] = {}
        """Permissions of the keys from ``Emulator.add_api_key``."""
        self.clear()

    def clear(self) -> None:
        """Empty the account; keep its clock, configuration and API keys."""
        self.pods: dict[str, PodRecord] = {}
        """Pods that list, get and status return."""
        self.hidden: list[PodRecord] = []
        """Pods that exist but have not appeared yet."""
        self.terminated: list[PodRecord] = []
        """Terminated pods, in the order of termination."""
        self.history: list[HistoryRow] = []
        self.created_count: int = 0
        """Number of pods ever created, including those whose ids were rejected."""
        self.funds: float | None = None
        """US dollars that may be spent in total; ``None`` for unlimited funds."""
        self.disks: list[DiskRecord] = []
        """All disks ever, in the order of creation."""
        self.ended_disks: set[str] = set()
        """Ids of the disks that are in the history."""
        self.keys: KeyRing = KeyRing(rng=random_for(self.config.seed, "keys"))
        self.market.capacities.clear()
        self.market.prices.clear()
        self._solvent_at = self.clock.now()
        """The latest time at which the funds are known to have sufficed."""
        self._terminations: list[tuple[float, str]] = []
        """Heap of termination times and pod ids."""

    def copy_state(self, other: Account) -> None:
        """Replace all state except API keys with that of ``other``, which has the same clock and config."""
        vars(self).update(vars(other) | {"lock": self.lock, "scopes": self.scopes})

    # For tests and control routes; see `Emulator`.

    def reset(self, *, pods: int, history: int, funds: float | None) -> None:
        with self.lock:
            self.clear()
            self.funds = funds
            self.seed(pods, history)

    def seed(self, pods: int, history: int) -> None:
        """Add history rows, and pods that are created now, with exact shares of failing and retried boots."""
        with self.lock:
            first = len(self.history)
            rng = random_for(self.config.seed, f"history:{first}")
            self.history.extend(draw_row(rng, first + number) for number in range(history))
            config = self.config
            shuffled = random_for(config.seed, f"outcomes:{self.created_count}").sample(range(pods), pods)
            failing_count = round(pods * config.failure_rate)
            retried_count = round(pods * config.flaky_rate)
            failing_indexes = set(shuffled[:failing_count])
            retried_indexes = set(shuffled[failing_count : failing_count + retried_count])
            now = self.catch_up()
            for index in range(pods):
                outcome = BootOutcome(fails=index in failing_indexes, retries=index in retried_indexes)
                self.add(create_pod(config, self._next_number(), now, PodOverrides(), outcome=outcome))
            self.catch_up()

    def add_pod(self, name: str | None, overrides: PodOverrides) -> str:
        unknown = ", ".join(sorted(overrides.keys() - PodOverrides.__annotations__.keys()))
        if unknown:
            known = ", ".join(PodOverrides.__annotations__)
            raise TypeError(f"a pod has no {unknown}; fields that can be set: name, {known}")
        check_amount("price_hr", overrides.get("price_hr", 0.0))
        if overrides.get("nodes", 1) not in range(1, MAX_NODES + 1):
            raise ValueError(f"nodes must be from 1 to {MAX_NODES}, not {overrides.get('nodes')!r}")
        with self.lock:
            record = self.create(name, overrides)
            self.add(record)
            self.catch_up()
            return record.id

    def remove_pod(self, pod_id: str) -> None:
        with self.lock:
            now = self.catch_up()
            record = self.pods.get(pod_id) or {hidden.id: hidden for hidden in self.hidden}[pod_id]
            self._schedule_termination(record, now)
            self.catch_up()

    def set_stock(self, cloud_id: str, left: int) -> None:
        with self.lock:
            self.market.check_known(cloud_id)
            self.catch_up()
            self.market.capacities[cloud_id] = left + self._count_ordered(cloud_id)

    def set_price(self, cloud_id: str, price_hr: float) -> None:
        check_amount("price_hr", price_hr)
        with self.lock:
            self.market.check_known(cloud_id)
            self.market.prices[cloud_id] = price_hr

    def add_funds(self, dollars: float) -> None:
        with self.lock:
            self.catch_up()
            previous_funds = self.funds if self.funds is not None else self.spent()
            self.funds = previous_funds + dollars

    def spent(self) -> float:
        with self.lock:
            return self._spent(self.catch_up())

    def advance(self, seconds: float) -> None:
        if isinstance(self.clock, ManualClock):
            return self.clock.advance(seconds)
        raise RuntimeError("this emulator's clock moves by itself: use Emulator(clock=ManualClock())")

    # For the API, which holds the lock.

    def view(self, lag: float = 0.0) -> AccountView:
        """Return pods and history as they were ``lag`` seconds ago."""
        now = self.catch_up()
        if lag <= 0:
            return AccountView(now, self.pods, self.history)
        then = now - lag
        terminated = [record for record in self.terminated if record.gone is not None and record.gone > then]
        records = [record for record in (*self.pods.values(), *terminated) if record.appears <= then]
        records.sort(key=lambda record: record.number)
        ended = [row for row in self.history if row.terminated is None or row.terminated <= then]
        return AccountView(then, {record.id: record for record in records}, ended)

    def existing(self) -> list[PodRecord]:
        """Return all pods that are not terminated, including those that have not appeared yet."""
        return [*self.pods.values(), *self.hidden]

    def remaining_stock(self, cloud_id: str) -> int | None:
        """Return the remaining stock of an offer, as of the last ``catch_up``; ``None`` for unlimited."""
        capacity = self.market.capacity(cloud_id, self.clock.now())
        return None if capacity is None else capacity - self._count_ordered(cloud_id)

    def is_out_of_funds(self) -> bool:
        return self.funds is not None and self.spent() > self.funds

    def balance(self) -> float:
        """Return the balance of the wallet, which decreases even if the funds are unlimited."""
        return round((_UNLIMITED if self.funds is None else self.funds) - self.spent(), 6)

    def bills(self) -> list[HistoryRow]:
        """Return a row for each resource with a cost, latest end first; existing ones count as ending now."""
        now = self.catch_up()
        rows = [attrs.evolve(row, terminated=now) if row.terminated is None else row for row in self.history]
        rows += [history_row(record, now) for record in self.existing()]
        rows += [disk.history_row(now) for disk in self.disks_at()[1]]
        return sorted((row for row in rows if row.billed), key=lambda row: (-(row.terminated or 0), row.id))

    def disks_at(self, lag: float = 0.0) -> tuple[float, list[DiskRecord]]:
        """Return the time ``lag`` seconds ago, and the disks that existed then."""
        then = self.catch_up() - max(lag, 0.0)
        return then, [disk for disk in self.disks if disk.created <= then and disk.status(then) != TERMINATED]

    def add_disk(self, offer: DiskOffer, size: int, name: str | None, team_id: str | None) -> DiskRecord:
        """Create a disk, which is ready after a tenth of ``boot_seconds``."""
        now = self.catch_up()
        number = len(self.disks) + 1
        disk = DiskRecord(
            id=f"{random_for(self.config.seed, f'disk:{number}').getrandbits(128):032x}",
            name=f"disk-{number:05d}" if name is None else name,
            size=size,
            cloud_id=offer.cloud_id,
            provider=offer.provider.name,
            data_center=offer.provider.data_center,
            country=offer.provider.country,
            price_hr=round(size * (offer.size.price or 0.0), 6),
            team_id=team_id,
            created=now,
            updated=now,
            ready=now + self.config.boot_seconds / 10,
        )
        self.disks.append(disk)
        return disk

    def has_team(self, team_id: str) -> bool:
        """Return whether the user is a member of a team: the emulator's own, or one of an added pod."""
        return team_id == TEAM_ID or any(
            pod.team_id == team_id for pod in (*self.existing(), *self.terminated)
        )

    def users_of(self, disk_id: str) -> list[str]:
        """Return the ids of the pods that a disk is attached to."""
        return [record.id for record in self.existing() if disk_id in record.disk_ids]

    def delete_disk(self, disk: DiskRecord) -> str:
        """Start the deletion of a disk, and return its status."""
        now = self.catch_up()
        if disk.delete_asked is None:
            disk.delete_asked, disk.gone = now, now + self.config.delete_seconds
        self.catch_up()
        return disk.status(now)

    def create(self, name: str | None, overrides: PodOverrides) -> PodRecord:
        """Create a pod without adding it to the account; see ``add``."""
        return create_pod(self.config, self._next_number(), self.catch_up(), overrides, name=name)

    def add(self, record: PodRecord) -> None:
        """Add a pod to the account; raises ``ValueError`` if its id is taken."""
        if record.id in self.pods or any(record.id == other.id for other in self.hidden):
            raise ValueError(f"the emulator already has a pod {record.id!r}")
        if record.appears > self.clock.now():
            self.hidden.append(record)
        else:
            self.pods[record.id] = record
        if record.gone is not None:  # set in advance, for example for a spot pod
            heapq.heappush(self._terminations, (record.gone, record.id))

    def delete(self, record: PodRecord, *, lost_after: float | None = None) -> str:
        """Start the deletion of a pod, and return its status.

        With ``lost_after``, the provider forgets the deletion after that many seconds, unless another one
        arrives before.
        """
        now = self.catch_up()
        is_new = not record.is_deleting(now)
        if is_new:
            record.delete_asked = now
        if is_new or record.delete_lost is not None:
            record.delete_lost = None if lost_after is None else now + lost_after
            if lost_after is None:
                self._schedule_termination(record, now + self.config.delete_seconds)
        self.catch_up()
        return DELETING if self.pods.get(record.id) is record else TERMINATED

    def catch_up(self) -> float:
        """Apply all changes that are due; return the current time."""
        now = self.clock.now()
        if self.hidden:
            self._show_hidden(now)
        if self.funds is not None:
            self._delete_if_unpaid(self.funds, now)
        for disk in self.disks:
            if disk.gone is not None and disk.gone <= now and disk.id not in self.ended_disks:
                self.ended_disks.add(disk.id)
                self.history.append(disk.history_row(disk.gone))
        while self._terminations and self._terminations[0][0] <= now:
            self._terminate(*heapq.heappop(self._terminations))
        return now

    def _count_ordered(self, cloud_id: str) -> int:
        return sum(record.offer == cloud_id for record in self.existing())

    def _next_number(self) -> int:
        self.created_count += 1
        return self.created_count

    def _show_hidden(self, now: float) -> None:
        """Move the pods that are due from ``hidden`` to ``pods``.

        Pods that ended before they appeared are moved, too, so that `catch_up` adds them to the history.
        """

        def is_due(record: PodRecord) -> bool:
            return record.appears <= now or (record.gone is not None and record.gone <= now)

        due = sorted(filter(is_due, self.hidden), key=lambda record: record.appears)
        self.hidden = [record for record in self.hidden if not is_due(record)]
        self.pods.update((record.id, record) for record in due)

    def _delete_if_unpaid(self, funds: float, now: float) -> None:
        """If the cost exceeds the funds, start the deletion of all pods, dated to when the funds ran out."""
        if self._spent(now) <= funds:
            self._solvent_at = now
            return
        moment = used_up_at(self._spent, funds, self._solvent_at, now)
        for record in self.existing():
            if not record.is_deleting(now):
                record.delete_asked = max(moment, record.created)
                record.delete_lost = None
                self._schedule_termination(record, record.delete_asked + self.config.delete_seconds)

    def _spent(self, now: float) -> float:
        pods = sum(billed(record, now) for record in (*self.existing(), *self.terminated))
        return pods + sum(disk.billed(now) for disk in self.disks)

    def _schedule_termination(self, record: PodRecord, when: float) -> None:
        record.gone = when if record.gone is None else min(when, record.gone)
        heapq.heappush(self._terminations, (record.gone, record.id))

    def _terminate(self, when: float, pod_id: str) -> None:
        record = self.pods.get(pod_id)
        # Skip an outdated entry: its pod was terminated earlier, and a new pod may have the same id.
        if record is not None and record.gone == when:
            del self.pods[pod_id]
            self.terminated.append(record)
            self.history.append(history_row(record, when))
