"""Blocking counterparts of the async resources, such as ``client.pods``. They raise the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Final, ParamSpec, Unpack

from ..leasing.lease import AsyncLease
from ..leasing.pool import LeaseArguments, PoolProgress
from ..resources.account import AsyncAccountInfo
from ..resources.availability import AsyncAvailability
from ..resources.disks import AsyncDisks
from ..resources.pods import AsyncPods
from ..resources.ssh_keys import AsyncSSHKeys
from ..specs import PodSpec
from ._delegate import Delegate, blocking, like, wrapping
from ._iterators import Pager, Watch
from ._lease import Lease, LeasedPod
from ._pool import Pool
from ._remote import Remote

P = ParamSpec("P")


def _leasing(method: Callable[Concatenate[Any, P], AsyncLease]) -> Callable[Concatenate[Any, P], Lease]:
    """Return the blocking counterpart of ``lease``, whose ``on_change`` runs in the calling thread."""

    @like(method, Lease)
    def lease(self: Any, /, *args: Any, on_change: Any = None, **kwargs: Any) -> Lease:
        return Lease(self._portal, method(self._async, *args, **kwargs), on_change)

    return lease


class Pods(Delegate[AsyncPods]):
    """``client.pods``: rent, list, inspect and delete pods."""

    remote: Final = wrapping(AsyncPods.remote, Remote)
    page: Final = blocking(AsyncPods.page)
    list: Final = wrapping(AsyncPods.list, Pager)
    _listed: Final = wrapping(AsyncPods._listed, Pager)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its counterpart
    get: Final = blocking(AsyncPods.get)
    status: Final = blocking(AsyncPods.status)
    statuses: Final = blocking(AsyncPods.statuses)
    watch: Final = wrapping(AsyncPods.watch, Watch)
    wait: Final = blocking(AsyncPods.wait)
    wait_ready: Final = blocking(AsyncPods.wait_ready)
    wait_gone: Final = blocking(AsyncPods.wait_gone)
    create: Final = blocking(AsyncPods.create)
    ensure: Final = blocking(AsyncPods.ensure)
    lease: Final = _leasing(AsyncPods.lease)
    sweep: Final = blocking(AsyncPods.sweep)
    delete: Final = blocking(AsyncPods.delete)
    delete_many: Final = blocking(AsyncPods.delete_many)
    history_page: Final = blocking(AsyncPods.history_page)
    history: Final = wrapping(AsyncPods.history, Pager)
    logs: Final = blocking(AsyncPods.logs)

    @like(AsyncPods.pool, Pool)
    def pool(
        self,
        spec: PodSpec | Iterable[PodSpec],
        *,
        size: int = 4,
        setup: Callable[[LeasedPod], object] | None = None,
        retries: int = 1,
        on_progress: Callable[[PoolProgress], object] | None = None,
        **options: Unpack[LeaseArguments],
    ) -> Pool:
        pool = self._async.pool(spec, size=size, retries=retries, on_progress=on_progress, **options)
        return Pool(self._portal, pool, setup)


class Availability(Delegate[AsyncAvailability]):
    """``client.availability``: the offers of GPUs, clusters and disks. Its calls cost nothing."""

    gpus: Final = wrapping(AsyncAvailability.gpus, Pager)
    multi_node: Final = wrapping(AsyncAvailability.multi_node, Pager)
    disks: Final = wrapping(AsyncAvailability.disks, Pager)
    find: Final = blocking(AsyncAvailability.find)
    cheapest: Final = blocking(AsyncAvailability.cheapest)
    summary: Final = blocking(AsyncAvailability.summary)


class SSHKeys(Delegate[AsyncSSHKeys]):
    """``client.ssh_keys``: the account's public SSH keys. They cost nothing."""

    list: Final = wrapping(AsyncSSHKeys.list, Pager)
    add: Final = blocking(AsyncSSHKeys.add)
    delete: Final = blocking(AsyncSSHKeys.delete)
    set_primary: Final = blocking(AsyncSSHKeys.set_primary)


class Disks(Delegate[AsyncDisks]):
    """``client.disks``: disks that pods write to, and that outlive them. They are billed until deleted."""

    list: Final = wrapping(AsyncDisks.list, Pager)
    _listed: Final = wrapping(AsyncDisks._listed, Pager)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its counterpart
    get: Final = blocking(AsyncDisks.get)
    create: Final = blocking(AsyncDisks.create)
    rename: Final = blocking(AsyncDisks.rename)
    delete: Final = blocking(AsyncDisks.delete)
    wait_ready: Final = blocking(AsyncDisks.wait_ready)


class AccountInfo(Delegate[AsyncAccountInfo]):
    """``client.account``: the key's user and permissions, the user's teams, and the wallet."""

    whoami: Final = blocking(AsyncAccountInfo.whoami)
    teams: Final = wrapping(AsyncAccountInfo.teams, Pager)
    members: Final = wrapping(AsyncAccountInfo.members, Pager)
    wallet: Final = blocking(AsyncAccountInfo.wallet)
