"""The asynchronous client's calls, iterations and leases for threads that block."""

from ._lease import Lease, LeasedPod, OnChange, release_leases
from ._portal import Portal, Streams
from ._remote import Remote

__all__ = ["Lease", "LeasedPod", "OnChange", "Portal", "Remote", "Streams", "release_leases"]
