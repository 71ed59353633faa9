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
    """

    def __init__(self, options: LeaseOptions) -> None:
        self._options = options
        self._rentals: list[Rental] = []

    def add(self, rental: Rental) -> None:
        """Count the hours from the first order, and the cost of this one, too."""
        self._rentals.append(rental)

    @property
    def hours_left(self) -> float:
        """Hours until a limit is reached, at the highest price seen."""
        return min(self._hours_of_time, self._hours_of_money)

    @property
    def _hours_of_time(self) -> float:
        limit = self._options.max_hours
        return math.inf if limit is None else limit - self._rentals[0].seconds / 3600

    @property
    def _hours_of_money(self) -> float:
        limit, price_hr = self._options.max_spend, self._rentals[-1].price_hr
        return math.inf if limit is None or price_hr <= 0 else (limit - self._spent) / price_hr

    @property
    def _spent(self) -> float:
        return sum(rental.spent for rental in self._rentals)

    def error(self) -> BudgetExceededError:
        """Return the error that says which limit is reached."""
        kind: Literal["hours", "spend"] = "hours" if self._hours_of_time < self._hours_of_money else "spend"
        limit = (self._options.max_hours if kind == "hours" else self._options.max_spend) or 0.0
        rental, spent = self._rentals[-1], self._spent
        return BudgetExceededError(
            f"{rental.what} has reached its budget, max_{kind}={limit:g}, which ends its lease; it has cost "
            f"{spent:.2f}.",
            pod_id=rental.pod.id if rental.pod else "",
            budget=kind,
            spent=spent,
            limit=limit,
        )
