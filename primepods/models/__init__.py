"""What the API answers, as frozen values.

A field is the wire's name in snake_case. Fields that this version does not know are kept in ``extra``.
Times are timezone-aware, prices the API's currency per hour. A field that the answer lacks is ``None`` (or an
empty tuple), never a default that the server did not send. From the page `Managing Pods
<https://docs.primeintellect.ai/api-reference/managing-pods>`_ and its schema.
"""

from __future__ import annotations

from .._utils.pod_reference import PodRef
from ._base import NO_EXTRA as NO_EXTRA
from ._base import Model as Model
from ._machine import Endpoint, Node, PortMapping
from ._page import Page
from ._pods import AttachedResource, HistoryRecord, Pod, PodChange, PodStatus, Resources
from ._states import InstallationState, PodState

__all__ = [
    "AttachedResource",
    "Endpoint",
    "HistoryRecord",
    "InstallationState",
    "Node",
    "Page",
    "Pod",
    "PodChange",
    "PodRef",
    "PodState",
    "PodStatus",
    "PortMapping",
    "Resources",
]
