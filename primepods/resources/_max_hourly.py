"""Limit on the total price of all pods per hour; see :func:`primepods.config.max_hourly`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from .._http.executor import RequestExecutor
from .._utils.clock import Clock
from .._utils.money import money
from ..config import max_hourly
from ..errors import BudgetExceededError
from ..leasing.pods_api import PodsAPI
from ..models import Pod
from ..specs import PRICE_TOLERANCE, PodSpec

# Seconds for which an order counts while the list does not show its pod with a price.
_PENDING_FOR: Final = 120.0


@attrs.frozen(eq=False)
class _PendingOrder:
    """An order of this process.

    Attributes:
        account: Hash of the account, so that the key is not kept.
        clock: The client's clock.
        name: The ordered name.
        price: The order's ``max_price``.
        ordered_at: When the order was allowed.
        known: Ids of pods with that name and a price that were listed before the order.
    """

    account: int
    clock: Clock
    name: str | None
    price: float
    ordered_at: float
    known: set[str]


# Orders of all accounts. `allow` removes those that are too old and, for its own account, those whose pods
# are listed.
_pending: Final[dict[_PendingOrder, None]] = {}


class HourlyLimit:
    """Limit on the total price of an account's pods per hour, if the user has set one.

    It does not see orders that other processes send at the same time.
    """

    def __init__(self, executor: RequestExecutor, pods: PodsAPI) -> None:
        settings = executor.settings
        self._clock = settings.clock
        self._account = hash((settings.base_url, settings.api_key, settings.team_id, id(settings.clock)))
        self._pods = pods

    def _orders(self) -> list[_PendingOrder]:
        return [order for order in list(_pending) if order.account == self._account]

    async def allow(self, spec: PodSpec) -> None:
        """Check that all pods, with the ordered one, cost no more per hour than the user allows.

        If there is a limit, the order counts from now on; call :meth:`forget` if it created no pod.

        Raises:
            BudgetExceededError: The pods would cost more, or the order has no ``max_price``.
            ConfigError: The limit cannot be read.
            PrimePodsError: Not all pods could be listed.
        """
        limit = max_hourly()
        if limit is None:
            return
        pods, error = await self._pods.list().collect()
        if error is not None:
            # Unreadable rows may be those of the most expensive pods.
            raise error
        # Nothing is awaited from here to the new entry: of two orders in a loop, the second sees the first.
        for order in list(_pending):
            if order.clock.boottime() >= order.ordered_at + _PENDING_FOR:
                _pending.pop(order, None)
        for order in self._orders():
            if new := _ids(pods, order.name) - order.known:
                _pending.pop(order, None)
                # A listed pod is that of one order only, though several have its name.
                for other in self._orders():
                    other.known.add(min(new))
        running = sum(pod.current_price_hr for pod in pods) + sum(order.price for order in self._orders())
        if spec.max_price is not None and running + spec.max_price <= limit * (1 + PRICE_TOLERANCE):
            now, known = self._clock.boottime(), _ids(pods, spec.name)
            order = _PendingOrder(self._account, self._clock, spec.name, spec.max_price, now, known)
            _pending[order] = None
            return
        shown_limit = f"your limit of {money(limit)} an hour (see `primepods config`)"
        if spec.max_price is None:
            problem = f"without a `max_price`, it could exceed {shown_limit}. Set a `max_price`."
        else:
            problem = (
                f"your pods, and the orders of the last minutes at their `max_price`, cost {money(running)} "
                f"an hour, and a pod for {money(spec.max_price)} could exceed {shown_limit}. Delete "
                "pods that are not needed, or raise PRIMEPODS_MAX_HOURLY, or max_hourly in "
                "~/.primepods/settings.toml."
            )
        raise BudgetExceededError(
            f"The pod was not ordered: {problem}",
            pod_id="",
            budget="hourly",
            spent=running,
            limit=limit,
        )

    def forget(self, spec: PodSpec) -> None:
        same = (spec.name, spec.max_price)
        found = next((order for order in self._orders() if (order.name, order.price) == same), None)
        if found is not None:
            _pending.pop(found, None)


def _ids(pods: Iterable[Pod], name: str | None) -> set[str]:
    # The price of a new pod may still be 0; until it has one, its order counts.
    return {pod.id for pod in pods if pod.name == name and pod.current_price_hr > 0}
