"""A client's connection to the shared poller.

Every client creates one, so this module imports nothing that only a wait needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._utils.clock import Clock
from ..config import Settings
from ..errors import ClientClosedError

if TYPE_CHECKING:
    from .._operations.operation import EventHook
    from .subscription import Subscription


class PollerConnection:
    """A client's connection to the shared poller.

    A view, made by ``with_options``, is a client with other settings. It closes with the client.

    Args:
        settings: The settings of the client or the view.
        session: The caller's aiohttp session, or ``None``.
        parent: The connection of the client or view from which this view or the client of a lease's team was
            made; ``None`` for any other client.

    Attributes:
        clock: The client's clock.
        on_event: The client's hook, or ``None``.
        settings: The settings of the client or the view.
        session: The caller's session, or ``None``.
        root: The connection of the client from which the views were made; for a client, this object.
        subscriptions: Open subscriptions of the client and its views; kept by the root only.
        closed: Whether the client is closed; set for the root only.
    """

    def __init__(self, settings: Settings, session: Any, parent: PollerConnection | None = None) -> None:
        self.clock: Clock = settings.clock
        self.on_event: EventHook | None = settings.on_event
        self.settings: Settings = settings
        self.session: Any = session
        self.root: PollerConnection = self if parent is None else parent.root
        self.closed: bool = False
        self.subscriptions: dict[Subscription, None] = {}

    async def aclose(self) -> None:
        """End the subscriptions, also those of abandoned iterators."""
        self.closed = True
        for subscription in list(self.subscriptions):
            # A forked child has copies of the parent's subscriptions, whose loop does not run here.
            if subscription.poller.loop is asyncio.get_running_loop():
                subscription.end(closed_error())
                subscription.close()


def closed_error() -> ClientClosedError:
    """Return the error of a wait that the client's closing ends or prevents."""
    return ClientClosedError(
        "The client is closed, and cannot wait for pods. This does not change the pods. Use a new client."
    )
