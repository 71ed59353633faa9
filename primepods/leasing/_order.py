"""State of one order of a lease, and the budget of a lease.

:class:`~primepods.leasing._rental.Rental` makes all transitions of :class:`OrderState`, in ``order``,
``_note_id``, ``restore``, ``resume``, ``_identify``, ``delete_own`` and ``delete_others``. The table in
``.github/CONTRIBUTING.md`` lists them, with their changes to the lease file.

Same-named pods have the order's unique name, but not the id of its pod. There are some if the response with
the id was lost, or if a gateway has repeated the order (imagined). ``delete_others`` deletes them once a pod
of the lease is ready, and again in each release, also if the order's own pod is kept. The release of a kept
pod ends in one of these ways:

- If the whole list was read and no same-named pod is left, ``settle`` removes the file.
- If the list was not read completely, ``settle`` logs a warning and leaves the file to sweeps. They delete
  same-named pods, but not the kept pod.
- If a same-named pod is not confirmed gone, ``settle`` reports a failure, which names that pod. The file is
  left to sweeps.
- If the release is given up, ``give_up`` leaves the file to sweeps. It reports a failure only if it knows a
  same-named pod that is not confirmed gone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Literal

from .. import errors
from .._operations import LISTENERS
from .._utils.clock import Clock
from .._utils.money import money
from ..models import Pod, PodStatus
from ..remote import note_hosts
from ..specs import PodSpec
from .ledger import LeaseFile
from .pods_api import APPEARS_WITHIN, LeaseOptions

if TYPE_CHECKING:
    from .._operations.operation import Listeners

_log = logging.getLogger("primepods")


class OrderState(Enum):
    """What is known about the pod of an order."""

    NO_POD = auto()
    """The order was not sent, or was refused."""
    SENT = auto()
    """The order was sent, or is being sent, and it is not known yet whether there is a pod."""
    UNCERTAIN = auto()
    """There was no conclusive response, and the search that followed found no pod with the name."""
    UNPROVEN = auto()
    """An id is known, but the pod's name is not confirmed: do not use or delete it."""
    OURS = auto()
    """The list or ``get`` has shown the id with the unique name."""
    WRONG_ID = auto()
    """The known id was shown with another name or none, and is forgotten."""
    ENDED = auto()
    """The pod is gone."""


UNKNOWN_ID_REASONS: Final = {
    OrderState.SENT: "its order was interrupted",
    OrderState.UNCERTAIN: "its order got no conclusive response",
    OrderState.WRONG_ID: "the response to its order had the id of another pod",
}
"""States in which a pod without a known id may be running, with the reasons for messages."""


class PodOrder:
    """State of one order, with its cost and its lease file; reports how its release ended.

    Attributes:
        spec: The pod to order, with its unique name.
        file: The lease file, which need not be written yet.
        state: What is known about the pod.
        pod_id: The id in the response to the order, or of the pod that was found by name; ``None`` if it is
            unknown or belongs to another pod.
        pod: The pod as its order returned it or, for a pod that was taken over, as ``get`` returned it.
        status: The pod's last status; ``None`` before the first.
        is_kept: Whether the pod is left to the user.
        ordered_at: When the pod was ordered, by a clock that includes the machine's sleep; infinity before.
        settled_at: When its first release ended, by the same clock; infinity before.
        release_error: The error that says why a pod of this order may still be running, or ``None``.
    """

    def __init__(self, spec: PodSpec, clock: Clock, file: LeaseFile) -> None:
        self.spec: PodSpec = spec
        self.file: LeaseFile = file
        self.state: OrderState = OrderState.NO_POD
        self.pod_id: str | None = None
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.is_kept: bool = False
        self.ordered_at: float = math.inf
        self.settled_at: float = math.inf
        self.release_error: errors.NotReleasedError | None = None
        self._clock = clock
        self._highest_price = 0.0
        # Ids of other pods with the unique name that are not confirmed gone yet.
        self._others: set[str] = set()
        # The id in the response to the order, if another one is used and the list has never shown this one.
        self._unseen_id: str | None = None
        # Phrase about the last failed request, for the end of a message.
        self._last_failure = ""
        self.listeners: Listeners | None = LISTENERS.get()

    @property
    def is_settled(self) -> bool:
        return self.settled_at < math.inf

    @property
    def name(self) -> str:
        return self.spec.name or ""

    @property
    def label(self) -> str:
        """Phrase for the pod in messages."""
        if self.pod_id is None:
            return f"A pod named {self.name}"
        price = f"{money(self.price_hr)} an hour" if self.price_hr else "of unknown price"
        return f"Pod {self.pod_id} (name {self.name}, {price})"

    @property
    def price_hr(self) -> float:
        """The highest price per hour so far; the order's maximum, or 0, until a price is known."""
        return self._highest_price or self.spec.max_price or 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the order."""
        return max(0.0, self._clock.boottime() - self.ordered_at)

    @property
    def spent(self) -> float:
        """Cost at :attr:`price_hr` until now, or until the release of a pod that is kept or confirmed gone.

        Without a known id, it is 0 until the pod has ended, because there may be no pod.
        """
        has_ended = self.state is OrderState.ENDED
        if self.pod_id is None and not has_ended:
            return 0.0
        until = min(self._clock.boottime(), self.settled_at if has_ended or self.is_kept else math.inf)
        return self.price_hr * max(0.0, until - self.ordered_at) / 3600

    def note_price(self, price_hr: float | None) -> None:
        """Update the highest price; 0 means unknown."""
        self._highest_price = max(self._highest_price, price_hr or 0.0)

    def note_status(self, status: PodStatus | None) -> None:
        """Update the status and the highest price."""
        if status is not None:
            self.status = status
            self.note_price(status.cost_per_hr)

    def check_price(self, max_spend: float | None) -> None:
        """Check the pod's price.

        Raises:
            PriceTooHighError: It costs more an hour than ``max_price``.
            BudgetExceededError: Its price is unknown, so ``max_spend`` cannot limit its cost.
        """
        if self.spec.is_exceeded_by(self.price_hr):
            message = f"it costs {money(self.price_hr)} an hour, more than max_price={self.spec.max_price:g}"
            raise errors.PriceTooHighError(
                f"{self.label} was ordered, but {message}. The lease deletes it. Take another offer, or "
                "raise max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )
        if max_spend is not None and not self.price_hr:
            raise errors.BudgetExceededError(
                f"{self.label} was ordered with max_spend={max_spend:g}, which cannot be enforced without a "
                "price. The lease deletes it. Set max_price in the spec, or take another offer.",
                pod_id=self.pod_id or "",
                budget="spend",
                spent=0.0,
                limit=max_spend,
            )

    @property
    def needs_list(self) -> bool:
        """Whether the release needs the list: pods with the unique name may exist, or have existed."""
        return self.state is not OrderState.NO_POD or bool(self._others)

    def settle(self, failure: str, *, is_searched: bool) -> None:
        """End a release. Remove the file or leave it to sweeps; report a pod that may be running.

        Args:
            failure: Why a pod may be running, or an empty text.
            is_searched: Whether the whole list was searched for other pods with the unique name, or no search
                was needed.
        """
        was_settled = self.is_settled
        self.settled_at = min(self.settled_at, self._clock.boottime())
        # UNCERTAIN is not a failure here: `order` or `resume` has raised a CreateUncertainError.
        if not failure and self.state in {OrderState.SENT, OrderState.WRONG_ID}:
            shown = "no pod with this name was found" if is_searched else "the list was not read completely"
            failure = f"{UNKNOWN_ID_REASONS[self.state]} ({shown})"
        if failure:
            self._report_failure(failure)
        elif self.state is OrderState.UNCERTAIN:
            _log.warning("it is unknown whether pod %r exists: `primepods sweep` looks for it", self.name)
            self._leave_to_sweep()
        elif not was_settled:
            may_appear = self._unseen_id is not None and self.seconds < APPEARS_WITHIN
            if is_searched and not may_appear:
                self.file.remove()
            else:
                reason = "the list was not read completely"
                if is_searched:
                    reason = f"the list has not shown pod {self._unseen_id} yet"
                text = "%s: `primepods sweep` looks for other pods named %r"
                _log.warning(text, reason, self.name)
                if may_appear and not self.is_kept:
                    self.file.update(pod_id=self._unseen_id)
                self._leave_to_sweep()
            if self.pod_id is not None and not self.is_kept:
                _log.info("%s is confirmed gone; it cost about %s", self.label, money(self.spent))
                note_hosts(removed=[self.pod_id], in_thread=True)
                self.notify("LeaseReleased", spent=self.spent)

    def give_up(self, reason: str) -> None:
        """End a release that is not done: report a pod that may be running, and leave the file to sweeps."""
        if self.is_kept and not self._others:
            self._leave_to_sweep()
        elif not self.is_settled and self.needs_list:
            self._report_failure(f"{UNKNOWN_ID_REASONS.get(self.state, reason)}{self._last_failure}")

    def _report_failure(self, reason: str) -> None:
        """Set ``release_error``, log it, tell ``on_event``, and leave the file to sweeps; only once."""
        if self.release_error is not None:
            return
        # Do not advise the user to delete an unproven id: the pod may be somebody else's.
        pod_id = None if self.state is OrderState.UNPROVEN else self.pod_id
        label = self.label
        price_hr: float | None = self.price_hr
        if self._others and (self.is_kept or self.state is OrderState.ENDED):
            # The ordered pod is kept or gone: only another pod with its name may be running.
            pod_id, price_hr = min(self._others), None
            label = f"Pod {pod_id} (name {self.name})"
        remedy = f"call `client.pods.delete({pod_id!r})`"
        if pod_id is None:
            label, remedy = f"A pod named {self.name}", "look for that name in `pods.list()`"
        error = errors.NotReleasedError(
            f"{label} may be running and billed, because {reason}. Run `primepods sweep`, or {remedy}.",
            pod_id=pod_id,
            name=self.name,
            price_hr=None if pod_id is None else price_hr,
        )
        self.release_error = error
        _log.error("%s", error, extra={"pod_id": pod_id, "pod_name": self.name})
        self._notify("ReleaseFailed", pod_id=pod_id, price_hr=error.price_hr)
        self._leave_to_sweep()

    def keep(self) -> None:
        """Leave the pod to the user. The release deletes only same-named pods: see the module's docstring."""
        self.is_kept = True
        # Not in another thread: after this returns, a crash must not let a sweep delete the pod.
        self.file.update(is_kept=True)
        self.notify("LeaseKept")

    def _leave_to_sweep(self) -> None:
        self.file.update(given_up=True)
        self.file.close()

    def notify(self, kind: str, **fields: float) -> None:
        """Report an event of the class ``kind`` to ``on_event``; do nothing while ``pod`` is ``None``."""
        if self.pod is not None:
            price_hr, seconds = self.price_hr, self.seconds
            self._notify(kind, pod_id=self.pod.id, price_hr=price_hr, seconds=seconds, **fields)

    def _notify(self, kind: str, **fields: object) -> None:
        if self.listeners is not None:
            self.listeners.report(kind, name=self.name, **fields)


class LeaseBudget:
    """Limits and cost of a lease or a pool. The caller appends new orders to ``orders``."""

    def __init__(self, options: LeaseOptions, orders: Sequence[PodOrder]) -> None:
        self._max_hours = math.inf if options.max_hours is None else options.max_hours
        self._max_spend = math.inf if options.max_spend is None else options.max_spend
        self._wind_down = options.wind_down
        self._orders = orders

    @property
    def spent(self) -> float:
        """Cost of all pods so far; see :attr:`PodOrder.spent`."""
        return sum(order.spent for order in self._orders)

    @property
    def seconds_left(self) -> float:
        """Seconds until a limit is reached, at the price of the pods that run; infinity if none applies."""
        return min(self._left())

    @property
    def seconds_until_wind_down(self) -> float:
        """Seconds until the block must end: the wind-down is at most a tenth of a limit."""
        seconds, seconds_by_spend = self._left()
        price_hr = self._price_hr
        tenth_by_spend = 360 * self._max_spend / price_hr if price_hr else math.inf
        return min(
            seconds - min(self._wind_down, 360 * self._max_hours),
            seconds_by_spend - min(self._wind_down, tenth_by_spend),
        )

    @property
    def _price_hr(self) -> float:
        running = [order for order in self._orders if not order.is_settled and not order.is_kept]
        return sum(order.price_hr for order in running or self._orders[-1:])

    def _left(self) -> tuple[float, float]:
        """Return the seconds until ``max_hours`` and until ``max_spend`` is reached."""
        if not self._orders or self._orders[-1].is_kept:
            return math.inf, math.inf
        # The hours count from the first order that was sent.
        seconds = 3600 * self._max_hours - max(order.seconds for order in self._orders)
        price_hr = self._price_hr
        return seconds, 3600 * (self._max_spend - self.spent) / price_hr if price_hr else math.inf

    def error(self) -> errors.BudgetExceededError:
        """Return the error that says which limit is reached, or will be after the wind-down."""
        seconds, seconds_by_spend = self._left()
        kind: Literal["hours", "spend"] = "hours" if seconds <= seconds_by_spend else "spend"
        limit = self._max_hours if kind == "hours" else self._max_spend
        order, spent, seconds_left = self._orders[-1], self.spent, min(seconds, seconds_by_spend)
        label = order.label[0].lower() + order.label[1:]
        text = f"reaches max_{kind}={limit:g} in {seconds_left:.0f} s"
        if seconds_left <= 0:
            text = f"has reached max_{kind}={limit:g}"
        return errors.BudgetExceededError(
            f"The lease of {label} {text}, and ends. Its pods have cost about {money(spent)}.",
            pod_id=order.pod_id or "",
            budget=kind,
            spent=spent,
            limit=limit,
        )
