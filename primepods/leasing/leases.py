"""What ``client.pods`` does about leases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._utils.arguments import check_callable, check_interval, check_seconds
from .._utils.text import quote
from ..config import Settings, lease_folder
from ..specs import PodSpec
from ..waiting import OnChange
from ._cost import final_cost
from .keeper import Keeper
from .lease import AsyncLease
from .open_leases import OpenLeases
from .operations import PodOperations
from .options import LeaseOptions
from .sweep import Sweep, Sweeper


class Leases:
    """Makes leases, and sweeps.

    Args:
        operations: What is done with ``client.pods``.
        settings: The client's settings.
        open_leases: The client's leases that are not released yet.
    """

    def __init__(self, operations: PodOperations, settings: Settings, open_leases: OpenLeases) -> None:
        self._operations = operations
        self._settings = settings
        self.open_leases = open_leases

    def keeper(self, spec: PodSpec, options: LeaseOptions, on_budget: Callable[[], None]) -> Keeper:
        """Return the keeper of a new lease.

        Raises:
            TypeError: ``spec`` is none.
        """
        return Keeper(
            operations=self._operations,
            settings=self._settings,
            folder=lease_folder(),
            spec=self._operations.named(spec),
            options=options,
            on_budget=on_budget,
        )

    def lease(self, spec: PodSpec, options: LeaseOptions, on_change: OnChange | None) -> AsyncLease:
        """Return a new lease.

        Raises:
            TypeError: ``spec`` is none, or ``on_change`` no function.
        """
        if on_change is not None:
            check_callable("on_change", on_change)
        return AsyncLease(partial(self.keeper, spec, options), on_change, self.open_leases, self.final_cost)

    async def final_cost(self, pod_id: str, *, timeout: float, interval: float) -> float:
        """Return what was billed for a pod; see :meth:`AsyncLeasedPod.final_cost`."""
        check_seconds("timeout", timeout)
        check_interval(interval)
        clock = self._settings.clock
        return await final_cost(self._operations, clock, pod_id, timeout=timeout, interval=interval)

    async def sweep(
        self, *, prefix: str | None, older_than: float | None, only: Sweep | None, dry_run: bool
    ) -> Sweep:
        """Sweep; see :meth:`AsyncPods.sweep`.

        Raises:
            TypeError: ``only`` is no sweep.
        """
        if not isinstance(only, Sweep | None):
            raise TypeError(f"only must be the Sweep that an earlier call returned, got {quote(only)}")
        sweeper = Sweeper(
            self._operations, self._settings, lease_folder(), prefix=prefix, older_than=older_than, only=only
        )
        return await sweeper.run(dry_run=dry_run)
