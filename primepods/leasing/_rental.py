"""One order of a lease: its unique name, its file, its pod, and what that costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import attrs

from .._utils.clock import ServerClock
from .._utils.unique_names import is_same_name, unique_name
from ..config import Settings
from ..errors import CreateUncertainError, NotReleasedError, PriceTooHighError, PrimePodsError
from ..models import Pod, PodStatus
from ..specs import PodSpec
from ._ledger import LeaseFile, as_time, new_record
from ._pods import PodsAPI, expiring_name, find_namesakes
from ._release import Release
from ._steps import INTERRUPTS, EndedError, GivenUpError, Steps
from .options import LeaseOptions

_log = logging.getLogger("primepods")

_DOUBT: Final = 60.0
"""Seconds after its order for which the release of a pod that nothing has shown goes on."""


@attrs.frozen(kw_only=True)
class Account:
    """Through what a lease orders.

    Attributes:
        pods: ``client.pods``, for the team that pays.
        order: Orders a pod; returns it, and whether there may be another one of its name.
        pods_once: The same without retries, so that a 404 is never that of a deletion that was repeated.
        settings: Settings, for that team.
        server_clock: The server's time.
        folder: Where the files of leases are.
    """

    pods: PodsAPI
    order: Callable[[PodSpec], Coroutine[Any, Any, tuple[Pod, bool]]]
    pods_once: PodsAPI
    settings: Settings
    server_clock: ServerClock
    folder: Path


class Rental:
    """One order, from its name until its pod is confirmed terminated.

    Args:
        account: Through what it is ordered.
        spec: What to order, without the suffix of its name.
        options: How.
        steps: The steps of the lease.

    Attributes:
        account: Through what it is ordered.
        spec: What is ordered.
        pod: The pod as ordered; ``None`` before that.
        status: Its status as last seen.
        file: Its file.
        price_hr: The highest price an hour that any response had; before that, what it may cost at most.
        not_released: Why it may be running.
    """

    file: LeaseFile

    def __init__(self, account: Account, spec: PodSpec, options: LeaseOptions, steps: Steps) -> None:
        self.spec = spec
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.not_released: NotReleasedError | None = None
        self.price_hr: float = spec.max_price or 0.0
        self._has_price = False
        self.account = account
        self._options = options
        self._steps = steps
        self._clock = account.settings.clock
        self._has_ordered = self._may_have_twin = False
        self._ordered_at = self._made_at = 0.0
        self._spent: float | None = None

    async def order(self) -> Pod:
        """Order the pod.

        Raises:
            EndedError: The lease ended before it was ordered.
            GivenUpError: The order was interrupted, and may have been carried out.
            PriceTooHighError: It costs more than ``spec.max_price``, and has to be released.
            PrimePodsError: Any other one: see ``pods.create``.
        """
        await self._remember()
        try:
            try:
                pod, self._may_have_twin = await self._steps.run(self._order())
            except INTERRUPTS:
                if not self._has_ordered:
                    self.file.remove()
                    raise EndedError from None
                # The event loop ends, and the order may have been carried out.
                pod, self._may_have_twin = await self._steps.run(self._find()), True
        except CreateUncertainError:
            self._give_up()
            raise
        except PrimePodsError:
            # Provably nothing was made.
            self.file.remove()
            raise
        except (GivenUpError, *INTERRUPTS):
            self.fail("its order was interrupted")
            raise GivenUpError from None
        self.pod, self._made_at = pod, self._clock.time()
        self.note_price(pod.price_hr)
        record = attrs.evolve(self.file.record, pod_id=pod.id, price_hr=self.price_hr)
        if (server_time := self.account.server_clock.now()) is not None:
            # Before the first response it may not have been known.
            record = attrs.evolve(record, ordered_at=as_time(server_time))
        self.file.record = record
        await self._steps.run(asyncio.to_thread(self.file.update))
        self.check_price()
        return pod

    async def _remember(self) -> None:
        """Choose the name, and write the file.

        Raises:
            ConfigError: The folder cannot be written.
        """
        settings, wanted = self.account.settings, self.spec.name or "primepods"
        account, hours = self.account, self._options.max_hours
        if hours is None:
            name = unique_name(wanted, self._clock.random)
        else:
            naming = expiring_name(
                wanted, hours, pods=account.pods, server_clock=account.server_clock, clock=self._clock
            )
            name = await self._steps.run(naming)
        if not name.startswith(wanted):
            _log.info("the name %r is shortened, since the whole would be longer than 63 characters", wanted)
        _log.info("leasing a pod: its name is %r", name)
        self.spec = attrs.evolve(self.spec, name=name)
        record = new_record(name, settings, settings.team_id, account.server_clock.now())
        write = asyncio.to_thread(LeaseFile.create, account.folder, record)
        try:
            self.file = await self._steps.run(write)
        except INTERRUPTS:
            raise EndedError from None
        if self._steps.is_ending:
            self.file.remove()
            raise EndedError

    async def _order(self) -> tuple[Pod, bool]:
        self._has_ordered, self._ordered_at = True, self._clock.boottime()
        return await self.account.order(self.spec)

    async def _find(self) -> Pod:
        found, shown = await find_namesakes(self.account.pods, self.name, self._clock)
        if len(found) == 1:
            return found[0]
        text = f"The order of pod {self.name!r} was interrupted, and whether it was made is unknown: {shown}."
        raise CreateUncertainError(text, name=self.name, candidates=tuple(pod.id for pod in found))

    @property
    def name(self) -> str:
        """The pod's unique name."""
        return self.spec.name or ""

    @property
    def what(self) -> str:
        """The pod, for messages."""
        if self.pod is None:
            return f"A pod named {self.name}"
        return f"Pod {self.pod.id} (name {self.name}, {self.price_hr:g} an hour)"

    @property
    def seconds(self) -> float:
        """Seconds since the order, also those in which the machine slept."""
        return self._clock.boottime() - self._ordered_at if self._has_ordered else 0.0

    @property
    def spent(self) -> float:
        """What the pod has cost so far, by the highest price that was seen."""
        if self._spent is not None:
            return self._spent
        return 0.0 if self.pod is None else self.price_hr * self.seconds / 3600

    def note_price(self, price_hr: float | None) -> None:
        """Take in the price of a response; 0 is none."""
        if price_hr is not None and price_hr > 0:
            self.price_hr = max(self.price_hr, price_hr) if self._has_price else price_hr
            self._has_price = True

    def note_status(self, status: PodStatus | None) -> None:
        """Take in a row about the pod."""
        if status is not None:
            self.status = status
            self.note_price(status.cost_per_hr)

    def check_price(self) -> None:
        """Raise an error if the pod costs more than was allowed."""
        if self.spec.is_exceeded_by(self.price_hr):
            message = f"it costs {self.price_hr:g} an hour, more than max_price={self.spec.max_price:g}"
            raise PriceTooHighError(
                f"{self.what} was ordered, but {message}. It is deleted: take another offer, or raise "
                "max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )

    async def release(self) -> None:
        """Delete the pod and confirm that it is terminated; else say that it may be running."""
        if self.pod is None:
            return
        reason = await self._delete(self.pod.id)
        for twin in await self._twins(self.pod.id):
            reason = await self._delete(twin) or reason
        if reason is None:
            self.file.remove()
        else:
            self.fail(reason)
        self._spent = self.spent

    async def _delete(self, pod_id: str) -> str | None:
        """Delete a pod and confirm that it is terminated; return why it may be running."""
        is_seen = self.status is not None or (self.pod is not None and pod_id != self.pod.id)
        release = Release(
            self.account.pods,
            self.account.pods if is_seen else self.account.pods_once,
            pod_id,
            self.name,
            self.what,
            options=self._options,
            clock=self._clock,
            steps=self._steps,
            doubt_until=None if is_seen else self._made_at + _DOUBT,
        )
        return await release.run()

    async def _twins(self, pod_id: str) -> list[str]:
        """Return the other pods of the unique name, which a gateway that repeats orders has made."""
        if not self._may_have_twin:
            return []
        listed, _ = await self._steps.run(self.account.pods.list().collect())
        return [pod.id for pod in listed if pod.id != pod_id and is_same_name(self.name, pod.name)]

    def _give_up(self) -> None:
        """Leave the file to a sweep."""
        self.file.update(given_up=True)
        self.file.close()

    def fail(self, reason: str) -> None:
        """Say, in all places, that the pod may be running."""
        if not self._steps.is_ours or self.not_released is not None:
            return
        pod = self.pod
        self.not_released = NotReleasedError(
            f"{self.what} may be running and billed: {reason}. `primepods sweep` removes it, or "
            + (f"`client.pods.delete({pod.id!r})`." if pod else "look for that name in `pods.list()`."),
            pod_id=None if pod is None else pod.id,
            name=self.name,
            price_hr=None if pod is None else self.price_hr,
        )
        _log.error("%s", self.not_released)
        self._give_up()
