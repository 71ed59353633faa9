"""The asynchronous client's calls, iterations and leases for threads that block."""

from ._lease import Lease, LeasedPod, OnChange, release_leases
from ._portal import Portal, Streams

__all__ = ["Lease", "LeasedPod", "OnChange", "Portal", "Streams", "release_leases"]
