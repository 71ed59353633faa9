"""Refused orders. Their pods may exist: a gateway can send an order twice, and return the second response."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._rental import Rental
    from .shared_list import Listing

_MAX_ORDERS: Final = 1_000


class RefusedOrders:
    """The refused orders of a client, until the list shows whether their pods exist."""

    def __init__(self) -> None:
        # A full queue drops the oldest order, whose file remains for a sweep.
        self._rentals: deque[Rental] = deque(maxlen=_MAX_ORDERS)

    def add(self, rental: Rental) -> None:
        """Add an order that was refused."""
        self._rentals.append(rental)

    async def check(self) -> None:
        """Search the list once for the pods of these orders; delete the pods that exist."""
        # Take all orders, so that a concurrent check does not search for them, too.
        undecided = self._rentals
        self._rentals = deque(maxlen=_MAX_ORDERS)
        listings: dict[str | None, Listing] = {}
        try:
            for rental in list(undecided):
                account = rental.account
                team_id = account.settings.team_id
                if team_id not in listings:
                    listings[team_id] = await account.shared_list.read(account)
                listed, is_complete = listings[team_id]
                if await rental.resolve_refusal(listed, is_complete=is_complete):
                    undecided.remove(rental)
        finally:
            self._rentals.extendleft(reversed(undecided))
