"""The list of pods, read once for all leases that ask for it at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from .._operations import empty_context

if TYPE_CHECKING:
    from ..models import Pod
    from .account import Account

LIST_TIMEOUT: Final = 10.0
LIST_PAGE_SIZE: Final = 1_000

Listing: TypeAlias = "tuple[list[Pod], bool]"
"""The listed pods, and whether the list is complete."""


class SharedList:
    """The list of a client's pods; callers that ask while it is being read share the requests."""

    def __init__(self) -> None:
        self._readings: dict[str | None, asyncio.Task[Listing]] = {}

    async def read(self, account: Account) -> Listing:
        """Return the pods of the account's team that could be read; none if reading takes over 10 s."""
        loop = asyncio.get_running_loop()
        team_id = account.settings.team_id
        reading = self._readings.get(team_id)
        if reading is None or reading.get_loop() is not loop:
            # In an empty context, so that a cancel scope of this caller does not affect the others.
            reading = loop.create_task(_read(account), context=empty_context())
            self._readings[team_id] = reading
            reading.add_done_callback(lambda _: self._readings.pop(team_id, None))
        await asyncio.wait({reading})
        if reading.cancelled():
            return [], False
        return reading.result()


async def _read(account: Account) -> Listing:
    clock = account.settings.clock
    try:
        async with clock.timeout_at(clock.time() + LIST_TIMEOUT):
            pods, error = await account.pods.list(page_size=LIST_PAGE_SIZE).collect()
            return pods, error is None
    except TimeoutError:
        return [], False
