"""The account of a lease: the API as one team, and the folder with the files of leases."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs

from .._utils.clock import ServerClock
from ..config import Settings
from ..models import Pod
from ..specs import PodSpec
from .pods_api import PodsAPI
from .shared_list import SharedList


@attrs.frozen(kw_only=True)
class Account:
    """Resources of the leases and sweeps of one team.

    Attributes:
        pods: ``client.pods``, for the team that pays.
        order: Orders a pod.
        pods_once: The same without retries, so that a 404 is never that of a deletion that was repeated.
        settings: Settings, for that team.
        server_clock: The server's time.
        folder: Where the files of leases are.
        shared_list: Reads the list of pods for several leases at once.
    """

    pods: PodsAPI
    order: Callable[[PodSpec], Coroutine[Any, Any, Pod]]
    pods_once: PodsAPI
    settings: Settings
    server_clock: ServerClock
    folder: Path
    shared_list: SharedList
