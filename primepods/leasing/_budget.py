"""The budget of a lease, ``max_hours`` and ``max_spend``, for all the pods that it orders."""

from __future__ import annotations

import math
from typing import Literal

from ..errors import BudgetExceededError
from ._rental import Rental
from .options import LeaseOptions


class Budget:
    """Hours and money of a lease.

    Args:
        options: The limits.

    Attributes:
        rentals: The orders of the lease. Their costs count; the hours count from the first order.
    """

    def __init__(self, options: LeaseOptions) -> None:
        self._options = options
        self.rentals: list[Rental] = []

    @property
    def hours_left(self) -> float:
        """Hours until a limit is reached, at the highest price seen."""
        return min(self._hours_until_max_hours, self._hours_until_max_spend)

    @property
    def _hours_until_max_hours(self) -> float:
        max_hours = self._options.max_hours
        return math.inf if max_hours is None else max_hours - self.rentals[0].seconds / 3600

    @property
    def _hours_until_max_spend(self) -> float:
        max_spend = self._options.max_spend
        price_hr = self.rentals[-1].price_hr
        is_price_known = price_hr > 0
        if max_spend is None or not is_price_known:
            return math.inf
        return (max_spend - self._spent) / price_hr

    @property
    def _spent(self) -> float:
        return sum(rental.spent for rental in self.rentals)

    def error(self) -> BudgetExceededError:
        """Return the error that says which limit is reached."""
        kind: Literal["hours", "spend"]
        if self._hours_until_max_hours < self._hours_until_max_spend:
            kind = "hours"
            limit = self._options.max_hours or 0.0
        else:
            kind = "spend"
            limit = self._options.max_spend or 0.0
        rental = self.rentals[-1]
        spent = self._spent
        return BudgetExceededError(
            f"{rental.label} has reached its budget, max_{kind}={limit:g}, which ends its lease; it has cost "
            f"{spent:.2f}.",
            pod_id=rental.pod.id if rental.pod else "",
            budget=kind,
            spent=spent,
            limit=limit,
        )
