"""The blocking client, whose methods are derived from the asynchronous ones."""

from ._call import in_calling_thread
from ._client import Client, run_in_client
from ._iterators import Pager, Watch
from ._lease import Lease, LeasedPod
from ._pool import Pool
from ._remote import Forward, Job, JobOutput, Remote
from ._resources import AccountInfo, Availability, Disks, Pods, SSHKeys

__all__ = [
    "AccountInfo",
    "Availability",
    "Client",
    "Disks",
    "Forward",
    "Job",
    "JobOutput",
    "Lease",
    "LeasedPod",
    "Pager",
    "Pods",
    "Pool",
    "Remote",
    "SSHKeys",
    "Watch",
    "in_calling_thread",
    "run_in_client",
]
