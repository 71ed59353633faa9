"""Renting pods and giving them back: leases, the files that remember them, and sweeps."""

from ._keeper import Keeper
from ._lease import (
    AsyncLease,
    AsyncLeasedPod,
    LeasedPodView,
    OpenLeases,
    add_notes,
    entry_error,
    exit_error,
)
from ._leases import Leases
from ._operations import PodOperations
from ._options import LeaseOptions
from ._sweep import OrphanedPod, SkippedLease, Sweep

__all__ = [
    "AsyncLease",
    "AsyncLeasedPod",
    "Keeper",
    "LeaseOptions",
    "LeasedPodView",
    "Leases",
    "OpenLeases",
    "OrphanedPod",
    "PodOperations",
    "SkippedLease",
    "Sweep",
    "add_notes",
    "entry_error",
    "exit_error",
]
