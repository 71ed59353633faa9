"""The leases of a client that are not released yet.

Each client has them, so this loads nothing of what a lease needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..waiting import OnChange
    from .keeper import Keeper


class OpenLeases:
    """The leases of a client and its views that are not released yet."""

    def __init__(self) -> None:
        self._keepers: set[Keeper] = set()

    def start(self, keeper: Keeper, on_change: OnChange | None) -> None:
        """Begin a lease; see :meth:`Keeper.start`.

        Raises:
            ConfigError: See :meth:`Keeper.start`.
            RuntimeError: It was begun before.
        """
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
        error = await released(*keepers) or held_back_ctrl_c(keepers)
        if error is not None:
            raise error


def held_back_ctrl_c(keepers: list[Keeper]) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that is still to be raised; a task that is cancelled ends without it."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    had_one = any(keeper.had_ctrl_c for keeper in keepers)
    return KeyboardInterrupt() if had_one and not is_cancelled else None
