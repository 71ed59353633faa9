"""The blocking client: delegates every call to the asynchronous one and waits for its result.

The docstrings here are short forms of those in :mod:`primepods.client` and :mod:`primepods.resources`.
"""

from .._blocking import in_calling_thread
from ._availability import Availability
from ._client import Client, run_in_client
from ._iterators import Pager, Watch
from ._pods import Pods
from ._ssh_keys import SSHKeys

__all__ = [
    "Availability",
    "Client",
    "Pager",
    "Pods",
    "SSHKeys",
    "Watch",
    "in_calling_thread",
    "run_in_client",
]
