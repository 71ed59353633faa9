"""The leases of a client that are not released yet.

Each client has them, so this loads nothing of what a lease needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import ClientClosedError

if TYPE_CHECKING:
    from ..waiting import OnChange
    from .keeper import Keeper


class OpenLeases:
    """The leases of a client and its views that are not released yet."""

    def __init__(self) -> None:
        self._keepers: set[Keeper] = set()
        self._is_closing = False

    def start(self, keeper: Keeper, on_change: OnChange | None) -> None:
        """Begin a lease; see :meth:`Keeper.start`.

        Raises:
            ClientClosedError: The client is being closed.
            ConfigError: See :meth:`Keeper.start`.
            RuntimeError: It was begun before.
        """
        if self._is_closing:
            # Its pod would be there when the client is closed.
            msg = "The client is being closed: nothing was ordered. Make a new client, or close it later."
            raise ClientClosedError(msg)
        keeper.start(on_change)
        self._keepers.add(keeper)
        keeper.task.add_done_callback(lambda _: self._keepers.discard(keeper))

    async def release(self) -> None:
        """Release all of them; a cancellation hurries that, and is raised at the end."""
        keepers = [keeper for keeper in self._keepers if keeper.is_open]
        if not keepers:
            return
        from .keeper import released  # noqa: PLC0415 - loaded by now

        for keeper in keepers:
            keeper.end()
        self._is_closing = True
        try:
            error = await released(*keepers) or held_back_ctrl_c(keepers)
        finally:
            self._is_closing = False
        if error is not None:
            raise error


def held_back_ctrl_c(keepers: list[Keeper]) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that is still to be raised; a task that is cancelled ends without it."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    had_one = any(keeper.had_ctrl_c for keeper in keepers)
    return KeyboardInterrupt() if had_one and not is_cancelled else None
