"""primepods: run GPU pods on Prime Intellect, awaited or called.

``AsyncClient`` is where everything begins; the README shows how.
"""

from ._version import __version__
from .client import AsyncClient
from .errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigError,
    ConflictError,
    FieldError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    PodFailedError,
    PrimePodsError,
    PrimePodsErrorGroup,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    ValidationError,
    WaitError,
    WaitTimeoutError,
)
from .models import (
    AttachedResource,
    Endpoint,
    HistoryRecord,
    InstallationState,
    Node,
    Page,
    Pod,
    PodChange,
    PodState,
    PodStatus,
    PortMapping,
    Resources,
)
from .pagination import AsyncPager
from .resources.pods import AsyncPods
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .ssh import SSHTarget
from .sync import Client, Pager, Pods, Watch
from .waiting import AsyncWatch, failed, gone, ready, settled

__all__ = [
    "APIError",
    "AsyncClient",
    "AsyncPager",
    "AsyncPods",
    "AsyncWatch",
    "AttachedResource",
    "AuthenticationError",
    "BadRequestError",
    "Client",
    "ClientClosedError",
    "ConfigError",
    "ConflictError",
    "Deletions",
    "Endpoint",
    "FieldError",
    "HistoryRecord",
    "InstallationState",
    "Node",
    "NotFoundError",
    "Page",
    "Pager",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pod",
    "PodChange",
    "PodFailedError",
    "PodState",
    "PodStatus",
    "PodStatuses",
    "Pods",
    "PortMapping",
    "PrimePodsError",
    "PrimePodsErrorGroup",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "Resources",
    "RetryPolicy",
    "SSHTarget",
    "ServerError",
    "TransportError",
    "ValidationError",
    "WaitError",
    "WaitTimeoutError",
    "Watch",
    "__version__",
    "failed",
    "gone",
    "ready",
    "settled",
]
