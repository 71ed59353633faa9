"""The account of a lease: the API for one team, and the folder with the files of leases."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs

from .._utils.clock import ServerClock
from ..config import Settings
from ..models import Pod
from ..specs import PodSpec
from ._refused_orders import RefusedOrders
from .pods_api import PodsAPI
from .shared_list import SharedList


@attrs.frozen(kw_only=True)
class Account:
    """API and files that the leases and sweeps of one team use.

    Attributes:
        pods: ``client.pods``, for the team that pays.
        order: Function that orders a pod.
        pods_once: ``pods`` without retries, so that a 404 is not the result of an earlier attempt.
        settings: Settings, for that team.
        server_clock: The server's time.
        folder: Where the files of leases are.
        shared_list: Reads the list of pods for several leases at once.
        refused: Refused orders; a pod exists only if a gateway has sent the order twice.
    """

    pods: PodsAPI
    order: Callable[[PodSpec], Coroutine[Any, Any, Pod]]
    pods_once: PodsAPI
    settings: Settings
    server_clock: ServerClock
    folder: Path
    shared_list: SharedList
    refused: RefusedOrders
