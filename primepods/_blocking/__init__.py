"""The asynchronous client's calls, iterations and leases for threads that block."""

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
