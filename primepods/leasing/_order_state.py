"""What a lease knows about the pod of an order."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class OrderState(Enum):
    """What is known about the pod of an order."""

    NO_POD = auto()
    """The order was not sent, or was refused."""
    SENT = auto()
    """The order was sent; if it is interrupted now, nothing is known."""
    UNCERTAIN = auto()
    """There is no conclusive response, and the list does not show a pod of the name."""
    UNPROVEN = auto()
    """An id is known, but nothing has shown that pod's name: it is neither used nor deleted."""
    OURS = auto()
    """The list or ``get`` has shown the id with the unique name."""
    ANOTHERS = auto()
    """The id in the response was shown with another name, and is forgotten."""
    ENDED = auto()
    """The pod is gone."""


# Why the pod may be running although no id is known.
UNKNOWN: Final = {
    OrderState.SENT: "its order was interrupted",
    OrderState.UNCERTAIN: "its order got no conclusive response",
    OrderState.ANOTHERS: "the response to its order had the id of another pod",
}
