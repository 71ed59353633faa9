"""Cost of one order."""

from __future__ import annotations

import math

from .. import errors
from .._utils.clock import Clock
from .._utils.money import money
from ..specs import PodSpec


class Cost:
    """Price and duration of a pod; its hours go on while the machine sleeps.

    Args:
        clock: The client's clock.
        spec: The ordered pod.

    Attributes:
        ordered_at: When it was ordered; infinity before that.
        settled_at: When it was confirmed gone, or left to sweeps; infinity before that.
    """

    def __init__(self, clock: Clock, spec: PodSpec) -> None:
        self.ordered_at: float = math.inf
        self.settled_at: float = math.inf
        self._clock = clock
        self._spec = spec
        self._highest_price = 0.0

    def note_price(self, price_hr: float | None) -> None:
        """Update the highest price; 0 means unknown."""
        self._highest_price = max(self._highest_price, price_hr or 0.0)

    @property
    def price_hr(self) -> float:
        """The highest price per hour in any response; before the first, the order's maximum price."""
        return self._highest_price or self._spec.max_price or 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the order."""
        return max(0.0, self._clock.boottime() - self.ordered_at)

    @property
    def spent(self) -> float:
        """Cost until now, or until the pod was gone, at the highest price seen."""
        seconds = min(self._clock.boottime(), self.settled_at) - self.ordered_at
        return self.price_hr * max(0.0, seconds) / 3600

    def check(self, label: str, pod_id: str, max_spend: float | None) -> None:
        """Raise an error if the pod costs more than was allowed, or its cost cannot be limited.

        Args:
            label: The pod, for the message.
            pod_id: The pod.
            max_spend: The limit of the lease.

        Raises:
            PriceTooHighError: It costs more an hour than ``max_price``.
            BudgetExceededError: Its price is unknown, so that ``max_spend`` would be no limit.
        """
        if self._spec.is_exceeded_by(self.price_hr):
            message = f"it costs {money(self.price_hr)} an hour, more than max_price={self._spec.max_price:g}"
            raise errors.PriceTooHighError(
                f"{label} was ordered, but {message}. It is deleted: take another offer, or raise max_price.",
                status_code=200,
                method="POST",
                path="/api/v1/pods/",
                message=message,
            )
        if max_spend is not None and not self.price_hr:
            raise errors.BudgetExceededError(
                f"{label} was ordered with max_spend={max_spend:g}, which is no limit without a price. "
                "It is deleted: set max_price of its spec, or take another offer.",
                pod_id=pod_id,
                budget="spend",
                spent=0.0,
                limit=max_spend,
            )
