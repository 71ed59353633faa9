"""primepods: an SDK for running GPU pods on Prime Intellect, async or blocking.

Start with ``AsyncClient`` or, for blocking calls, ``Client``; the README has examples. A public name is
imported at its first use: a program that only makes a ``PodSpec`` does not load aiohttp.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    # Type checkers need these imports; a test compares them with the table below.
    from .client import AsyncClient as AsyncClient
    from .errors import *  # noqa: F403 - all its names are public
    from .events import OnEvent as OnEvent
    from .leasing.lease import AsyncLease as AsyncLease
    from .leasing.lease import AsyncLeasedPod as AsyncLeasedPod
    from .leasing.pool import AsyncPool as AsyncPool
    from .leasing.pool import PoolProgress as PoolProgress
    from .leasing.pool import PoolResult as PoolResult
    from .leasing.sweep_results import OrphanedPod as OrphanedPod
    from .leasing.sweep_results import SkippedLease as SkippedLease
    from .leasing.sweep_results import Sweep as Sweep
    from .models import *  # noqa: F403 - all its names are public
    from .models.account import Account as Account
    from .models.account import BillingEntry as BillingEntry
    from .models.account import Disk as Disk
    from .models.account import Permission as Permission
    from .models.account import Team as Team
    from .models.account import TeamMember as TeamMember
    from .models.account import Wallet as Wallet
    from .models.keys import SSHKey as SSHKey
    from .models.offers import DiskOffer as DiskOffer
    from .models.offers import GpuPrices as GpuPrices
    from .models.offers import Offer as Offer
    from .models.offers import Prices as Prices
    from .models.offers import SpecRange as SpecRange
    from .pagination import AsyncPager as AsyncPager
    from .remote import GPU_CHECK as GPU_CHECK
    from .remote import AsyncForward as AsyncForward
    from .remote import AsyncJob as AsyncJob
    from .remote import AsyncJobOutput as AsyncJobOutput
    from .remote import AsyncRemote as AsyncRemote
    from .remote import CommandResult as CommandResult
    from .remote import JobState as JobState
    from .remote import OnLine as OnLine
    from .remote import OnProgress as OnProgress
    from .remote import OutputLine as OutputLine
    from .remote import Watchdog as Watchdog
    from .remote import check_work as check_work
    from .resources.account import AsyncAccountInfo as AsyncAccountInfo
    from .resources.availability import AsyncAvailability as AsyncAvailability
    from .resources.disks import AsyncDisks as AsyncDisks
    from .resources.pods import AsyncPods as AsyncPods
    from .resources.ssh_keys import AsyncSSHKeys as AsyncSSHKeys
    from .results import Deletions as Deletions
    from .results import PodStatuses as PodStatuses
    from .retry import RetryPolicy as RetryPolicy
    from .signals import exit_on_sigterm as exit_on_sigterm
    from .specs import DiskSpec as DiskSpec
    from .specs import PodSpec as PodSpec
    from .ssh import SSHTarget as SSHTarget
    from .sync import AccountInfo as AccountInfo
    from .sync import Availability as Availability
    from .sync import Client as Client
    from .sync import Disks as Disks
    from .sync import Forward as Forward
    from .sync import Job as Job
    from .sync import JobOutput as JobOutput
    from .sync import Lease as Lease
    from .sync import LeasedPod as LeasedPod
    from .sync import Pager as Pager
    from .sync import Pods as Pods
    from .sync import Pool as Pool
    from .sync import Remote as Remote
    from .sync import SSHKeys as SSHKeys
    from .sync import Watch as Watch
    from .waiting.conditions import Until as Until
    from .waiting.conditions import failed as failed
    from .waiting.conditions import gone as gone
    from .waiting.conditions import ready as ready
    from .waiting.conditions import settled as settled
    from .waiting.wait import OnChange as OnChange
    from .waiting.watch import AsyncWatch as AsyncWatch
else:
    _PUBLIC = {
        "_version": "__version__",  # imported above; here for `__all__`
        "client": "AsyncClient",
        "errors": (
            "APIError AuthenticationError BadRequestError BudgetExceededError ClientClosedError "
            "CommandError CommandTimeoutError ConfigError ConflictError ConnectionLostError "
            "CreateUncertainError FieldError JobError LoginError NotFoundError NotReleasedError "
            "PaymentRequiredError PermissionDeniedError PodFailedError PriceTooHighError PrimePodsError "
            "PrimePodsErrorGroup ProtocolError RateLimitError RequestTimeoutError ServerError "
            "SoldOutError TransferError TransportError ValidationError WaitError WaitTimeoutError"
        ),
        "events": "OnEvent",
        "leasing.lease": "AsyncLease AsyncLeasedPod",
        "leasing.pool": "AsyncPool PoolProgress PoolResult",
        "leasing.sweep_results": "OrphanedPod SkippedLease Sweep",
        "models": (
            "AttachedResource Endpoint HistoryRecord InstallationState Node Page Pod PodChange PodRef "
            "PodState PodStatus PortMapping Resources"
        ),
        "models.account": "Account BillingEntry Disk Permission Team TeamMember Wallet",
        "models.keys": "SSHKey",
        "models.offers": "DiskOffer GpuPrices Offer Prices SpecRange",
        "pagination": "AsyncPager",
        "remote": (
            "AsyncForward AsyncJob AsyncJobOutput AsyncRemote CommandResult GPU_CHECK JobState OnLine "
            "OnProgress OutputLine Watchdog check_work"
        ),
        "resources.account": "AsyncAccountInfo",
        "resources.availability": "AsyncAvailability",
        "resources.disks": "AsyncDisks",
        "resources.pods": "AsyncPods",
        "resources.ssh_keys": "AsyncSSHKeys",
        "results": "Deletions PodStatuses",
        "retry": "RetryPolicy",
        "signals": "exit_on_sigterm",
        "specs": "DiskSpec PodSpec",
        "ssh": "SSHTarget",
        "sync": (
            "AccountInfo Availability Client Disks Forward Job JobOutput Lease LeasedPod Pager Pods "
            "Pool Remote SSHKeys Watch"
        ),
        "waiting.conditions": "Until failed gone ready settled",
        "waiting.wait": "OnChange",
        "waiting.watch": "AsyncWatch",
    }
    _MODULE_OF = dict(sorted((name, module) for module, names in _PUBLIC.items() for name in names.split()))
    __all__ = list(_MODULE_OF)

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return __all__
