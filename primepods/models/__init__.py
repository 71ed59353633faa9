"""Models of the API's responses, as frozen values.

Fields of responses have the API's names in snake_case. Fields that this version does not know are in
``extra``. Times are timezone-aware; prices are in the API's currency. An optional field that the response
does not have is ``None`` or empty. Source: the page `Managing Pods
<https://docs.primeintellect.ai/api-reference/managing-pods>`_ and the API's schema.
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
