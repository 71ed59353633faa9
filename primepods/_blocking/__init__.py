"""Blocking calls, iterations and leases on top of the asynchronous client."""

from ._call import in_calling_thread
from ._lease import Lease, LeasedPod, OnChange, release_leases
from ._portal import Portal
from ._remote import Remote
from ._stream import Streams

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
