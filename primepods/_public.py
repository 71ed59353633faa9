"""The public names for looking at pods, besides errors and models; :mod:`primepods` hands them on."""

from ._version import __version__
from .client import AsyncClient
from .pagination import AsyncPager
from .resources.pods import AsyncPods
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .ssh import SSHTarget
from .waiting import AsyncWatch, failed, gone, ready, settled

__all__ = [
    "AsyncClient",
    "AsyncPager",
    "AsyncPods",
    "AsyncWatch",
    "Deletions",
    "PodStatuses",
    "RetryPolicy",
    "SSHTarget",
    "__version__",
    "failed",
    "gone",
    "ready",
    "settled",
]
