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
    CreateUncertainError,
    FieldError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    PodFailedError,
    PriceTooHighError,
    PrimePodsError,
    PrimePodsErrorGroup,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    SoldOutError,
    TransportError,
    ValidationError,
    WaitError,
    WaitTimeoutError,
)
from .keys import SSHKey
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
from .offers import DiskOffer, Offer, Prices, SpecRange
from .pagination import AsyncPager
from .resources.pods import AsyncPods
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .specs import PodSpec
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
    "CreateUncertainError",
    "Deletions",
    "DiskOffer",
    "Endpoint",
    "FieldError",
    "HistoryRecord",
    "InstallationState",
    "Node",
    "NotFoundError",
    "Offer",
    "Page",
    "Pager",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pod",
    "PodChange",
    "PodFailedError",
    "PodSpec",
    "PodState",
    "PodStatus",
    "PodStatuses",
    "Pods",
    "PortMapping",
    "PriceTooHighError",
    "Prices",
    "PrimePodsError",
    "PrimePodsErrorGroup",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "Resources",
    "RetryPolicy",
    "SSHKey",
    "SSHTarget",
    "ServerError",
    "SoldOutError",
    "SpecRange",
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
