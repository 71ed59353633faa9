"""Binary search for the items that make a batch request fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from .concurrency import map_bounded

T = TypeVar("T")

GIVE_UP_AFTER: Final = 8
"""Number of failures without a success after which single items are not the cause (chosen)."""


class FaultSearch(Generic[T]):
    """Search for the items that make batch requests fail.

    While nothing has succeeded, there may be another cause, and a few items are requested alone. Then both
    halves of the batch are requested, and both halves of one that fails, down to single items. ``send``
    records the results, so that the last request for an item counts, also if the search ends early.

    Args:
        send: Requests some items; returns the error, or ``None``.
        goes_on_after: Whether the search goes on after an error; it must not if the items are not its cause.
        singles: Max number of items to request alone, in all calls of :meth:`run`.
        halves: Max number of halves to request, in all calls.
        concurrency: Max number of concurrent requests.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[Exception | None]],
        goes_on_after: Callable[[Exception], bool],
        *,
        singles: int,
        halves: int,
        concurrency: int,
    ) -> None:
        self._send = send
        self._goes_on_after = goes_on_after
        self._singles = singles
        self._halves = halves
        self._concurrency = min(2, concurrency)

    async def run(self, items: list[T], has_success: Callable[[], bool]) -> bool:
        """Search the items of a failed request, beginning with the first ones.

        Args:
            items: The items.
            has_success: Whether a request has succeeded, also one that is not part of the search.

        Returns:
            Whether nothing has succeeded: all of the items may be at fault, or none.
        """
        # Spread the single items evenly, so that adjacent culprits are not all of them.
        count = min(len(items), self._singles, GIVE_UP_AFTER - 1)
        singles = [items[len(items) * n // count] for n in range(count)]
        rest = items
        for item in singles:
            if has_success() or not self._singles:
                break
            self._singles -= 1
            error = await self._send([item])
            if error is not None and not self._goes_on_after(error):
                return False
            rest = [other for other in rest if other != item]
        if not has_success():
            return True
        groups = [rest] if rest else []
        while groups and self._halves > 1:
            group = groups.pop()
            halves = [half for half in (group[: len(group) // 2], group[len(group) // 2 :]) if half]
            self._halves -= len(halves)
            errors = await map_bounded(self._send, halves, self._concurrency)
            if not all(error is None or self._goes_on_after(error) for error in errors):
                break
            failed = [half for half, error in zip(halves, errors, strict=True) if error is not None]
            groups += [half for half in reversed(failed) if len(half) > 1]
        return False
