"""Limit on the total price of all pods per hour; see :func:`primepods.config.max_hourly`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import attrs

from .._http.executor import RequestExecutor
from .._utils.files import locked_file, read_objects, replace_file
from .._utils.money import money
from .._utils.unique_names import UniqueName, is_unique
from ..config import lease_folder, max_hourly, this_host
from ..errors import BudgetExceededError, ConfigError
from ..leasing.pods_api import PodsAPI, has_ended, read_ended_pods
from ..models import HistoryRecord, Pod
from ..specs import PRICE_TOLERANCE, PodSpec

log = logging.getLogger("primepods")

# Seconds, after the deadline of the order, for which it counts while the list does not show its pod.
_PENDING_FOR: Final = 120.0
# Seconds for which the file keeps an order after that, for processes that have read the list before.
_KEPT_FOR: Final = 600.0
# Seconds by which an order may be in the future, since the system's clock may be set back a little.
_MAX_CLOCK_STEP: Final = 60.0
_TEXT: Final = attrs.validators.instance_of(str)
_NUMBER: Final = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(math.inf))


@attrs.frozen(kw_only=True)
class _RecentOrder:
    """An order that was allowed; a line of the file.

    Attributes:
        account: Hash of the API's address, the key and the team.
        name: The ordered name.
        price: The order's ``max_price``.
        boot_id: The boot since which ``at`` and ``done_at`` are measured; ``None`` for the epoch.
        at: When the order was allowed.
        wall: The same in seconds since the epoch, for later boots.
        duration: Seconds for which the order counts at most.
        known: Ids of pods with that name and a price that were listed before the order.
        pod_id: Id of the listed pod that is taken for this order's.
        done_at: When the list showed that pod; 0 if the order created none, or if its pod has ended. Only for
            lists that are read later, the order no longer counts: an earlier one may lack the pod.
        version: Version of the line.
    """

    account: str = attrs.field(validator=_TEXT)
    name: str = attrs.field(validator=_TEXT)
    price: float = attrs.field(validator=_NUMBER)
    boot_id: str | None = attrs.field(validator=attrs.validators.optional(_TEXT))
    at: float = attrs.field(validator=_NUMBER)
    wall: float = attrs.field(validator=_NUMBER)
    duration: float = attrs.field(validator=_NUMBER)
    known: Sequence[str] = attrs.field(validator=attrs.validators.deep_iterable(_TEXT))
    pod_id: str | None = attrs.field(default=None, validator=attrs.validators.optional(_TEXT))
    done_at: float | None = attrs.field(default=None, validator=attrs.validators.optional(_NUMBER))
    version: int = attrs.field(default=1, validator=attrs.validators.in_([1]))


class HourlyLimit:
    """Limit on the total price of an account's pods per hour, if the user has set one.

    The orders of all processes of this machine count, which share a file in the folder of leases. Orders of
    other machines count once the list shows their pods.
    """

    def __init__(self, executor: RequestExecutor, pods: PodsAPI) -> None:
        settings = executor.settings
        self._clock = settings.clock
        account = f"{settings.base_url}\n{settings.api_key}\n{settings.team_id}"
        self._account = hashlib.blake2b(account.encode(), digest_size=16).hexdigest()
        self._duration = settings.deadline + _PENDING_FOR
        self._pods = pods
        self._has_limit = False

    async def allow(self, spec: PodSpec) -> None:
        """Check that all pods, with the ordered one, cost no more per hour than the user allows.

        If there is a limit, the order is on the disk when this returns, and counts; call :meth:`forget` if it
        created no pod.

        Raises:
            BudgetExceededError: The pods would cost more, or the order has no ``max_price``.
            ConfigError: The limit cannot be read, or the file of recent orders cannot be used.
            PrimePodsError: Not all pods could be listed.
        """
        limit = max_hourly()
        self._has_limit = limit is not None
        if limit is None:
            return
        began = self._now()
        pods, error = await self._pods.list().collect()
        if error is not None:
            # Unreadable rows may be those of the most expensive pods.
            raise error
        # A price below zero (imagined) is no credit.
        listed = math.fsum(max(0.0, pod.current_price_hr) for pod in pods)
        price = math.inf if spec.max_price is None else spec.max_price
        free = limit * (1 + PRICE_TOLERANCE) - listed - price
        reserve = partial(self._reserve, spec, pods, began, free)
        pending = await asyncio.to_thread(reserve, [])
        if pending > free >= 0:
            # The list no longer shows pods that have ended.
            pending = await asyncio.to_thread(reserve, await read_ended_pods(self._pods))
        if pending <= free:
            return
        running = listed + pending
        shown_limit = f"your limit of {money(limit)} an hour (see `primepods config`)"
        if spec.max_price is None:
            problem = f"without a `max_price`, it could exceed {shown_limit}. Set a `max_price`."
        else:
            problem = (
                f"your pods, and the orders of the last minutes at their `max_price`, cost {money(running)} "
                f"an hour, and a pod for {money(spec.max_price)} could exceed {shown_limit}. Delete "
                "pods that are not needed, or raise PRIMEPODS_MAX_HOURLY."
            )
        raise BudgetExceededError(
            f"The pod was not ordered: {problem}",
            pod_id="",
            budget="hourly",
            spent=running,
            limit=limit,
        )

    async def forget(self, spec: PodSpec) -> None:
        """Stop counting an order that created no pod."""
        if self._has_limit:
            try:
                await asyncio.to_thread(self._forget, spec)
            except ConfigError as exc:
                log.warning("an order that was refused counts for some minutes: %s", exc)

    def _reserve(
        self, spec: PodSpec, pods: Sequence[Pod], began: float, free: float, ended: list[HistoryRecord]
    ) -> float:
        """Return the price per hour of the orders whose pods are not listed, and add this one if it fits.

        Args:
            spec: The order.
            pods: The listed pods.
            began: When the list was requested.
            free: Max price per hour of the other orders.
            ended: Pods that have ended.
        """
        now = self._now()
        with self._recent_orders() as orders:
            orders[:] = self._mark_done(orders, pods, now, ended)
            ids = {pod.id for pod in pods}
            pending = math.fsum(order.price for order in orders if self._is_pending(order, ids, began))
            if spec.max_price is not None and pending <= free:
                order = _RecentOrder(
                    account=self._account,
                    name=str(spec.name),
                    price=spec.max_price,
                    boot_id=this_host()[1],
                    at=now,
                    wall=self._clock.wall(),
                    duration=self._duration,
                    known=sorted(_ids(pods, spec.name)),
                )
                orders.append(order)
        return pending

    def _mark_done(
        self, orders: list[_RecentOrder], pods: Sequence[Pod], now: float, ended: list[HistoryRecord]
    ) -> Generator[_RecentOrder]:
        """Yield the orders without old ones, and mark this account's whose pods are listed or have ended."""
        # A listed pod is that of one order only, though several have its name.
        taken = {order.pod_id for order in orders}
        for order in orders:
            if self._age(order, now) >= order.duration + _KEPT_FOR:
                continue
            if order.account != self._account or order.done_at is not None:
                yield order
            elif new := _ids(pods, order.name) - taken.union(order.known):
                taken.add(min(new))
                yield attrs.evolve(order, pod_id=min(new), done_at=now)
            elif is_unique(order.name) and has_ended(UniqueName(order.name), None, ended):
                yield attrs.evolve(order, done_at=0.0)
            else:
                yield order

    def _is_pending(self, order: _RecentOrder, listed: set[str], began: float) -> bool:
        """Return whether an order of this account counts beside a list that was requested at ``began``."""
        if order.account != self._account or order.pod_id in listed:
            return False
        if order.done_at is not None and (order.boot_id != this_host()[1] or order.done_at < began):
            return False
        return self._age(order, began) < order.duration

    def _forget(self, spec: PodSpec) -> None:
        wanted = (self._account, spec.name, spec.max_price, None)
        with self._recent_orders() as orders:
            same = [o for o in orders if (o.account, o.name, o.price, o.done_at) == wanted]
            for order in same[-1:]:
                orders.remove(order)

    def _now(self) -> float:
        return self._clock.wall() if this_host()[1] is None else self._clock.boottime()

    def _age(self, order: _RecentOrder, now: float) -> float:
        return now - order.at if order.boot_id == this_host()[1] else self._clock.wall() - order.wall

    @contextmanager
    def _recent_orders(self) -> Generator[list[_RecentOrder]]:
        """Lock and read the file of recent orders; write it at the end if the block has changed the list.

        Raises:
            ConfigError: The file cannot be used.
        """
        path = lease_folder().absolute() / "orders.jsonl"
        try:
            with locked_file(path) as descriptor:
                try:
                    orders = [_RecentOrder(**row) for row in read_objects(descriptor, is_replaced=True)]
                    now = self._now()
                    if any(self._age(order, now) < -_MAX_CLOCK_STEP for order in orders):
                        raise ValueError("the time of an order is in the future")
                except (TypeError, ValueError) as exc:
                    raise ConfigError(
                        f"The file {path} of the orders that count for your limit per hour cannot be read "
                        f"({exc.args[0]}). Nothing was ordered. Wait until the list shows the pods that were "
                        "ordered in the last minutes, then move the file away."
                    ) from None
                before = [*orders]
                yield orders
                if orders != before:
                    replace_file(path, "".join(f"{json.dumps(attrs.asdict(o))}\n" for o in orders).encode())
        except OSError as exc:
            raise ConfigError(
                f"The file {path} of the orders that count for your limit per hour cannot be used "
                f"({exc.strerror}). Nothing was ordered. Try again, make its folder writable, or set "
                "PRIMEPODS_STATE_DIR to another folder."
            ) from None


def _ids(pods: Iterable[Pod], name: str | None) -> set[str]:
    # The price of a new pod may still be 0; until it has one, its order counts.
    return {pod.id for pod in pods if pod.name == name and pod.current_price_hr > 0}
