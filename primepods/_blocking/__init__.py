"""Blocking calls, iterations and leases on top of the asynchronous client."""

from ._lease import Lease, LeasedPod, OnChange, release_leases
from ._portal import Portal, Streams, in_calling_thread
from ._remote import Remote

__all__ = [
    "Lease",
    "LeasedPod",
    "OnChange",
    "Portal",
    "Remote",
    "Streams",
    "in_calling_thread",
    "release_leases",
]
