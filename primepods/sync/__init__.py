"""The blocking client: every call of the asynchronous one, run to its end. Delegates and nothing else.

What stands here about a method is the short form of what :mod:`primepods.client` and
:mod:`primepods.resources` say.
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
