"""primepods: run GPU pods on Prime Intellect, awaited or called.

``AsyncClient`` is where everything begins; the README shows how.
"""

from ._retry import RetryPolicy
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
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    ValidationError,
)
from .models import (
    AttachedResource,
    Deletions,
    Endpoint,
    HistoryRecord,
    InstallationState,
    Node,
    Page,
    Pod,
    PodState,
    PodStatus,
    PodStatuses,
    PortMapping,
    Resources,
)
from .pages import AsyncPager
from .resources.pods import AsyncPods
from .ssh import SSHTarget

__all__ = [
    "APIError",
    "AsyncClient",
    "AsyncPager",
    "AsyncPods",
    "AttachedResource",
    "AuthenticationError",
    "BadRequestError",
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
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pod",
    "PodState",
    "PodStatus",
    "PodStatuses",
    "PortMapping",
    "PrimePodsError",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "Resources",
    "RetryPolicy",
    "SSHTarget",
    "ServerError",
    "TransportError",
    "ValidationError",
    "__version__",
]
