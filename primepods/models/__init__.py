"""Models of the API's responses, as frozen values.

A field has the wire's name in snake_case. Fields unknown to this version are kept in ``extra``. Times are
timezone-aware; prices are per hour in the API's currency. A field that is missing in the response is
``None`` (or an empty tuple), never a default that the server did not send. Source: the page `Managing Pods
<https://docs.primeintellect.ai/api-reference/managing-pods>`_ and its schema.
"""

from __future__ import annotations

from .._utils.pod_reference import PodRef
from ._base import NO_EXTRA as NO_EXTRA
from ._base import Model as Model
from ._page import Page
from ._pods import AttachedResource, HistoryRecord, Pod, PodChange, PodStatus, Resources
from ._readiness import Endpoint, Node, PortMapping
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
