"""The public names for renting; :mod:`primepods` hands them on."""

from .keys import SSHKey
from .leasing.lease import AsyncLease, AsyncLeasedPod
from .leasing.sweep import OrphanedPod, SkippedLease, Sweep
from .offers import DiskOffer, GpuPrices, Offer, Prices, SpecRange
from .resources.availability import AsyncAvailability
from .resources.ssh_keys import AsyncSSHKeys
from .specs import PodSpec

__all__ = [
    "AsyncAvailability",
    "AsyncLease",
    "AsyncLeasedPod",
    "AsyncSSHKeys",
    "DiskOffer",
    "GpuPrices",
    "Offer",
    "OrphanedPod",
    "PodSpec",
    "Prices",
    "SSHKey",
    "SkippedLease",
    "SpecRange",
    "Sweep",
]
