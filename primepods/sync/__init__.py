"""The blocking client, whose methods are derived from the asynchronous ones."""

from .._blocking import in_calling_thread
from ._client import Client, run_in_client
from ._iterators import Pager, Watch
from ._resources import AccountInfo, Availability, Disks, Pods, SSHKeys

__all__ = [
    "AccountInfo",
    "Availability",
    "Client",
    "Disks",
    "Pager",
    "Pods",
    "SSHKeys",
    "Watch",
    "in_calling_thread",
    "run_in_client",
]
