"""The public names of the blocking client; :mod:`primepods` hands them on."""

from ._blocking import Lease, LeasedPod
from .sync import Availability, Client, Pager, Pods, SSHKeys, Watch

__all__ = [
    "Availability",
    "Client",
    "Lease",
    "LeasedPod",
    "Pager",
    "Pods",
    "SSHKeys",
    "Watch",
]
