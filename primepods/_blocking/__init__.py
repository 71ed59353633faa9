"""Blocking calls, iterations and leases on top of the asynchronous client."""

from ._call import in_calling_thread
from ._delegate import Delegate, blocking, like, wrapping
from ._lease import Lease, LeasedPod, OnChange, release_leases
from ._pool import Pool
from ._portal import Portal
from ._remote import Forward, Job, JobOutput, Remote
from ._stream import Streams

__all__ = [
    "Delegate",
    "Forward",
    "Job",
    "JobOutput",
    "Lease",
    "LeasedPod",
    "OnChange",
    "Pool",
    "Portal",
    "Remote",
    "Streams",
    "blocking",
    "in_calling_thread",
    "like",
    "release_leases",
    "wrapping",
]
