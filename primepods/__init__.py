"""primepods: run GPU pods on Prime Intellect, awaited or called.

``AsyncClient`` is where everything begins; the README shows how.
"""

from ._blocking_lease import Lease, LeasedPod
from ._version import __version__
from .client import AsyncClient
from .errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClientClosedError,
    ConfigError,
    ConflictError,
    CreateUncertainError,
    FieldError,
    NotFoundError,
    NotReleasedError,
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
from .leasing import AsyncLease, AsyncLeasedPod, OrphanedPod, Sweep
from .models import (
    AttachedResource,
    Endpoint,
    HistoryRecord,
    InstallationState,
    Node,
    Page,
    Pod,
    PodChange,
    PodRef,
    PodState,
    PodStatus,
    PortMapping,
    Resources,
)
from .offers import DiskOffer, Offer, Prices, SpecRange
from .pagination import AsyncPager
from .resources.availability import AsyncAvailability
from .resources.pods import AsyncPods
from .resources.ssh_keys import AsyncSSHKeys
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .specs import PodSpec
from .ssh import SSHTarget
from .sync import Availability, Client, Pager, Pods, SSHKeys, Watch
from .waiting import AsyncWatch, failed, gone, ready, settled

__all__ = [
    "APIError",
    "AsyncAvailability",
    "AsyncClient",
    "AsyncLease",
    "AsyncLeasedPod",
    "AsyncPager",
    "AsyncPods",
    "AsyncSSHKeys",
    "AsyncWatch",
    "AttachedResource",
    "AuthenticationError",
    "Availability",
    "BadRequestError",
    "BudgetExceededError",
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
    "Lease",
    "LeasedPod",
    "Node",
    "NotFoundError",
    "NotReleasedError",
    "Offer",
    "OrphanedPod",
    "Page",
    "Pager",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pod",
    "PodChange",
    "PodFailedError",
    "PodRef",
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
    "SSHKeys",
    "SSHTarget",
    "ServerError",
    "SoldOutError",
    "SpecRange",
    "Sweep",
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
