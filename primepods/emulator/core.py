"""All the state of one emulator: what the API shows, and what a control route or a test can change."""

from collections.abc import Mapping

from ._api.api import Api
from ._api.availability import MarketApi
from ._api.pods import PodsApi
from ._api.ssh_keys import KeysApi
from ._state.account import World
from ._state.config import Nature
from ._state.market import Market
from ._state.pods import PodOverrides, PodRecord
from ._state.randomness import stream
from ._state.snapshot import dump, restore
from ._state.ssh_keys import KeyRing
from .clock import Clock, ManualClock
from .faultplan import FaultPlan
from .requestlog import RequestLog


class Core:
    """The account, the market, the faults and the log of requests. Every method takes the lock by itself."""

    def __init__(  # noqa: PLR0913  the last four by keyword
        self, nature: Nature, clock: Clock, *, pods: int, history: int, funds: float | None, api_key: str
    ) -> None:
        self.clock: Clock = clock
        self._start = (pods, history, funds)
        self.world: World = World(clock=clock, nature=nature)
        self.market: Market = Market(nature.seed, nature.stock)
        self.keys: KeyRing = KeyRing()
        routes = [
            *PodsApi(self.world, self.market, self.keys).routes(),
            *MarketApi(self.world, self.market).routes(),
            *KeysApi(self.world, self.keys).routes(),
        ]
        self.api: Api = Api(self.world, routes, api_key=api_key)
        self.faults: FaultPlan = FaultPlan(clock, [route.name for route in routes], nature.seed)
        self.requests: RequestLog = RequestLog()
        self.reset()

    def reset(self) -> None:
        """Go back to the start: the same fleet, born now; no faults, no requests, no keys."""
        pods, history, funds = self._start
        with self.world.lock:
            self.world.clear()
            self.world.funds = funds
            self.world.seed_history(history)
            self.world.seed_pods(pods)
            self.market.forced.clear()
            self.keys.reset(stream(self.world.nature.seed, "keys"))
        self.faults.clear()
        self.requests.clear()

    def advance(self, seconds: float) -> None:
        """Move a manual clock; raises `RuntimeError` if the clock moves by itself."""
        if not isinstance(self.clock, ManualClock):
            msg = "this emulator's clock moves by itself: make it with Emulator(clock=ManualClock())"
            raise RuntimeError(msg)  # noqa: TRY004  the argument is fine, the emulator is not
        self.clock.advance(seconds)

    def seed(self, pods: int, history: int) -> None:
        """Add pods, born now, and rows of the past."""
        with self.world.lock:
            self.world.seed_pods(pods)
            self.world.seed_history(history)

    def add_pod(self, name: str | None, overrides: PodOverrides) -> str:
        """Bear one pod; raises `ValueError` or `TypeError` for overrides that make no sense."""
        unknown = ", ".join(sorted(overrides.keys() - PodOverrides.__annotations__.keys()))
        if unknown:
            known = ", ".join(PodOverrides.__annotations__)
            msg = f"a pod has no {unknown}; what can be fixed: name, {known}"
            raise TypeError(msg)
        with self.world.lock:
            record = self.world.conceive(name, overrides)
            self.world.enter(record)
            self.world.settle()
            return record.id

    def delete_pod(self, pod_id: str) -> None:
        """Let a pod vanish; raises `KeyError` for an unknown id."""
        with self.world.lock:
            self.world.vanish(self._record(pod_id))

    def set_stock(self, cloud_id: str, left: int) -> None:
        """Say how many of an offer can still be had; raises `KeyError` for an unknown offer."""
        with self.world.lock:
            offer = self.market.find(cloud_id)
            if offer is None:
                raise KeyError(cloud_id)
            ordered = sum(record.offer == cloud_id for record in self.world.living())
            self.market.forced[cloud_id] = left + ordered

    def add_funds(self, dollars: float) -> None:
        """Pay in; an account that had no end of money then has what it has spent, and this."""
        with self.world.lock:
            funds = self.world.funds if self.world.funds is not None else self.world.spent()
            self.world.settle()
            self.world.funds = funds + dollars

    def snapshot(self) -> dict[str, object]:
        """All state but faults and requests, as JSON."""
        with self.world.lock:
            return dump(self.world, self.market, self.keys)

    def restore(self, saved: Mapping[str, object]) -> None:
        """Take the state of a snapshot, as if no time had passed since; raises `ValueError` if it is none."""
        with self.world.lock:
            restore(saved, self.world, self.market, self.keys)

    def _record(self, pod_id: str) -> PodRecord:
        record = self.world.find(pod_id)
        if record is None:
            raise KeyError(pod_id)
        return record
