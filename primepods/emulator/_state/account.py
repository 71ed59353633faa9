"""The state of the emulated account, and the only things that can happen to it.

Nothing ticks in the background. Every entry point first *settles* the world: it applies what fell due since
the last one, at the moment it fell due. Callers hold `lock` around everything they do here: the server's
thread and the thread of the test meet in this class.
"""

import heapq
import threading
from collections.abc import Iterator, Mapping
from itertools import islice

from attrs import Factory, define, field, frozen

from ..clock import Clock
from .billing import runs_dry, spent
from .boot import DELETING, TERMINATED
from .config import Nature
from .creation import Fate, bear
from .history import History, ended, past
from .pods import PodOverrides, PodRecord
from .randomness import stream


@frozen
class Scene:
    """What the API shows at one moment: the present, or what a replica that lags behind takes for it."""

    now: float
    pods: Mapping[str, PodRecord]
    """Oldest first: the order of the list."""
    history: History

    def page(self, offset: int, limit: int) -> Iterator[PodRecord]:
        """The pods of one page."""
        first = min(offset, len(self.pods))
        return islice(self.pods.values(), first, first + limit)


@define(kw_only=True, eq=False)
class World:
    """The account's pods, history and money."""

    clock: Clock
    nature: Nature
    funds: float | None = None
    """All that was ever paid in, in US dollars; `None` means without end."""
    pods: dict[str, PodRecord] = Factory(dict[str, PodRecord])
    """Those that list, get and status know."""
    hidden: list[PodRecord] = Factory(list[PodRecord])
    """Those that are there but have not appeared yet."""
    buried: list[PodRecord] = Factory(list[PodRecord])
    """Those that are gone, in the order in which they went."""
    history: History = Factory(History)
    born: int = 0
    solvent: float = 0.0
    """The last moment at which the funds are known to have sufficed."""
    lock: threading.RLock = Factory(threading.RLock)
    _leaving: list[tuple[float, str]] = field(factory=list[tuple[float, str]])

    def clear(self) -> None:
        """Empty the world; only clock and nature stay."""
        self.pods.clear()
        self.hidden.clear()
        self.buried.clear()
        self.history.clear()
        self.born = 0
        self.funds = None
        self.solvent = self.clock.now()
        self._leaving.clear()

    def seed_pods(self, count: int) -> None:
        """Bear `count` pods now, of which the exact shares will fail, or stumble and recover."""
        nature = self.nature
        order = stream(nature.seed, f"fates:{self.born}").sample(range(count), count)
        doomed = set(order[: round(count * nature.failure_rate)])
        flaky = set(order[len(doomed) :][: round(count * nature.flaky_rate)])
        now = self.settle()
        for index in range(count):
            fate = Fate(doomed=index in doomed, flaky=index in flaky)
            self.enter(bear(nature, self._number(), now, PodOverrides(), fate=fate))
        self.settle()

    def seed_history(self, count: int) -> None:
        """Put `count` rows of all kinds into the history, from the weeks before the clock's start."""
        first = len(self.history.rows)
        rng = stream(self.nature.seed, f"history:{first}")
        self.history.extend(past(rng, first + number) for number in range(count))

    def conceive(self, name: str | None, wishes: PodOverrides) -> PodRecord:
        """Make a pod that is not in the world yet; `enter` puts it there."""
        return bear(self.nature, self._number(), self.settle(), wishes, name=name)

    def enter(self, record: PodRecord) -> None:
        """Let a pod be; raises `ValueError` if its id is taken."""
        if record.id in self.pods or any(record.id == other.id for other in self.hidden):
            msg = f"the emulator has a pod {record.id!r} already"
            raise ValueError(msg)
        if record.appears > self.clock.now():
            self.hidden.append(record)
        else:
            self.pods[record.id] = record
        if record.gone is not None:
            heapq.heappush(self._leaving, (record.gone, record.id))

    def find(self, pod_id: str) -> PodRecord | None:
        """Look for the pod that the API knows by this id now."""
        self.settle()
        return self.pods.get(pod_id)

    def living(self) -> list[PodRecord]:
        """All pods that are not gone, those that have not appeared included."""
        return [*self.pods.values(), *self.hidden]

    def scene(self, lag: float = 0.0) -> Scene:
        """Show the world as it was `lag` seconds ago."""
        now = self.settle()
        if lag <= 0:
            return Scene(now, self.pods, self.history)
        then = now - lag
        gone_since = [record for record in self.buried if record.gone is not None and record.gone > then]
        shown = [record for record in (*self.pods.values(), *gone_since) if record.appears <= then]
        shown.sort(key=lambda record: record.number)
        return Scene(then, {record.id: record for record in shown}, self.history.until(then))

    def delete(self, record: PodRecord) -> str:
        """Delete as the API does, in `delete_seconds`; returns the state that the API answers."""
        now = self.settle()
        if record.delete_asked is None:
            record.delete_asked = now
            self._leave(record, now + self.nature.delete_seconds)
        self.settle()
        return DELETING if record.id in self.pods else TERMINATED

    def vanish(self, record: PodRecord) -> None:
        """Take the pod away at once, as a provider does."""
        self._leave(record, self.settle())
        self.settle()

    def spent(self) -> float:
        """Add up what all pods, living and gone, have cost until now, in US dollars."""
        return spent([*self.living(), *self.buried], self.settle())

    def is_broke(self) -> bool:
        """Tell whether more has been spent than there was."""
        return self.funds is not None and self.spent() > self.funds

    def settle(self) -> float:
        """Apply all that fell due until now; returns now."""
        now = self.clock.now()
        if self.hidden:
            self._appear(now)
        if self.funds is not None:
            self._charge(self.funds, now)
        while self._leaving and self._leaving[0][0] <= now:
            self._bury(*heapq.heappop(self._leaving))
        return now

    def _number(self) -> int:
        self.born += 1
        return self.born

    def _appear(self, now: float) -> None:
        # Who goes before having appeared passes through the list for no time, on the way to the history.
        due = [r for r in self.hidden if r.appears <= now or (r.gone is not None and r.gone <= now)]
        self.hidden = [record for record in self.hidden if record not in due]
        self.pods.update((record.id, record) for record in sorted(due, key=lambda record: record.appears))

    def _charge(self, funds: float, now: float) -> None:
        """Delete everything from the moment on at which the money was gone."""
        records = [*self.living(), *self.buried]
        if spent(records, now) <= funds:
            self.solvent = now
            return
        dry = runs_dry(records, funds, self.solvent, now)
        for record in self.living():
            if record.delete_asked is None:
                record.delete_asked = max(dry, record.created)
                self._leave(record, record.delete_asked + self.nature.delete_seconds)

    def _leave(self, record: PodRecord, when: float) -> None:
        record.gone = when if record.gone is None else min(when, record.gone)
        heapq.heappush(self._leaving, (record.gone, record.id))

    def _bury(self, when: float, pod_id: str) -> None:
        record = self.pods.get(pod_id)
        # Who was to leave later and left earlier stands in the heap twice.
        if record is not None and record.gone == when:
            del self.pods[pod_id]
            self.buried.append(record)
            self.history.extend([ended(record, when)])
