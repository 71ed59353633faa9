"""Disks that outlive pods.

API reference: https://docs.primeintellect.ai/api-reference/disks
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import attrs

from .._decoding.objects import wire_names
from .._decoding.rows import as_object, decode_item
from .._http.executor import RequestExecutor
from .._http.request import DISKS, Request, item_path, item_request
from .._operations import as_operation
from .._status_reader import StatusReader
from .._utils.arguments import check_flag, check_interval, check_seconds, check_text
from .._utils.strict_json import dumps
from .._utils.text import quote
from .._utils.unique_names import unique_name
from ..errors import (
    ConflictError,
    NotFoundError,
    PrimePodsError,
    WaitError,
    WaitTimeoutError,
)
from ..models import PodState
from ..models.account import Disk
from ..pagination import AsyncPager
from ..specs import DiskSpec
from ._deletion import Deleter
from ._orders import Order, OrderSender, repeated_error
from ._paging import MAX_LIMIT, PAGE_SIZE, ignore_body, list_pager

log: logging.Logger = logging.getLogger("primepods")

_APPEAR_GRACE: Final = 60.0
"""Seconds for which a wait ignores a 404."""


class AsyncDisks:
    """``client.disks``: disks that pods write to, and that outlive them. They are billed until deleted.

    No lease and no sweep deletes a disk. Any request may also raise the errors that
    :class:`~primepods.AsyncPods` lists.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor
        self._clock = executor.settings.clock
        self._statuses = StatusReader(executor)
        self._deleter = Deleter(executor, self._statuses, DISKS)

    def list(self, *, page_size: int = PAGE_SIZE) -> AsyncPager[Disk]:
        """Iterate over all disks, each exactly once: ``GET /api/v1/disks/``.

        Args:
            page_size: Disks per request, from 1 to 1,000.
        """
        return list_pager(self._executor, f"{DISKS}/", Disk, page_size, name="disks.list")

    @as_operation("disks.get")
    async def get(self, disk_id: str | Disk) -> Disk:
        """Return one disk: ``GET /api/v1/disks/{id}``.

        Args:
            disk_id: The disk's id, or the disk.

        Raises:
            NotFoundError: No such disk.
        """
        return await self._get(_id_of(disk_id))

    @as_operation("disks.create")
    async def create(self, spec: DiskSpec) -> Disk:
        """Order a disk: ``POST /api/v1/disks/``. It is billed until you delete it.

        If no response proves the outcome, the client looks for the disk by its name; it does not order again.

        Args:
            spec: The order.

        Raises:
            CreateUncertainError: It is unknown whether the disk was created, or a gateway repeated the order.
                The message says what to look for.
        """
        if not isinstance(spec, DiskSpec):
            raise TypeError(f"spec must be a DiskSpec, got {quote(spec)}: use DiskSpec.from_offer(offer, …)")
        settings = self._executor.settings
        team_id = spec.team_id or settings.team_id
        team = AsyncDisks(self._executor.with_settings(attrs.evolve(settings, team_id=team_id)))
        order = Order(spec.name or unique_name("disk", self._clock.random), Disk)
        fields = {key: getattr(spec, field) for field, key in wire_names(DiskSpec).items()}
        fields |= {"name": order.name, "provider": None, "teamId": None}
        wanted = {key: value for key, value in fields.items() if value is not None}
        body: dict[str, Any] = {"disk": wanted, "provider": {"type": spec.provider}}
        if team_id is not None:
            body["team"] = {"teamId": team_id}
        request = Request(method="POST", path=f"{DISKS}/", body=dumps(body))
        sender = OrderSender(team._executor, team._listed, team._get, Order[Disk].choose)
        disk, *others = await sender.send(order, request)
        if others:
            raise repeated_error(order, [disk.id, *(other.id for other in others)])
        return disk

    @as_operation("disks.rename")
    async def rename(self, disk_id: str | Disk, name: str) -> Disk:
        """Change the name of a disk: ``PATCH /api/v1/disks/{id}``. Returns the disk as the API then shows it.

        If an error is raised, the name may have been changed.

        Args:
            disk_id: The disk's id, or the disk.
            name: The new name.

        Raises:
            NotFoundError: No such disk.
        """
        disk_id = _id_of(disk_id)
        body = dumps({"name": check_text("name", name)})
        await self._executor.call(item_request("PATCH", disk_id, DISKS, body=body), ignore_body)
        return await self._get(disk_id)

    @as_operation("disks.delete")
    async def delete(self, disk_id: str | Disk, *, missing_ok: bool = False) -> PodState:
        """Delete a disk: ``DELETE /api/v1/disks/{id}``. All data on it is lost.

        Success requires proof, as for :meth:`primepods.AsyncPods.delete`.

        Args:
            disk_id: The disk's id, or the disk.
            missing_ok: Whether a disk that does not exist counts as deleted.

        Returns:
            DELETING or TERMINATED; with ``missing_ok``, TERMINATED also for a disk that does not exist.

        Raises:
            ConflictError: The disk is or may be in use. DELETE was not sent, or the API refused it.
            NotFoundError: No such disk, without ``missing_ok``.
            ProtocolError: The responses do not prove the deletion.
        """
        check_flag("missing_ok", missing_ok)
        disk_id = _id_of(disk_id)
        try:
            decode = partial(_decode_users, disk_id=disk_id)
            disk = await self._executor.call(item_request("GET", disk_id, DISKS), decode)
        except NotFoundError:
            # With `missing_ok`, one 404 is not enough: the deletion decides.
            if not missing_ok:
                raise
        else:
            await self._check_unused(disk)
        return await self._deleter.delete(disk_id, missing_ok=missing_ok)

    @as_operation("disks.wait_ready")
    async def wait_ready(
        self, disk_id: str | Disk, *, timeout: float = 1800.0, interval: float = 5.0
    ) -> Disk:
        """Wait until a disk is ACTIVE, and return it.

        Transient errors do not end the wait; their time counts towards ``timeout``.

        Args:
            disk_id: The disk's id, or the disk.
            timeout: Seconds for the whole wait.
            interval: Seconds between two requests, at least 0.05.

        Raises:
            WaitTimeoutError: The time ran out. The disk may exist, and be billed.
            WaitError: The disk has failed, was stopped or deleted, or is being deleted.
            NotFoundError: The API has not shown the disk for a minute.
        """
        disk_id = _id_of(disk_id)
        check_seconds("timeout", timeout)
        check_interval(interval)
        seen_at = self._clock.time()
        ends_at = seen_at + timeout
        shown: str | None = None
        trouble = ""
        while True:
            try:
                disk = await self._get(disk_id, ends_at=ends_at)
            except NotFoundError:
                # One 404 proves nothing, even after the disk was shown.
                if self._clock.time() - seen_at >= _APPEAR_GRACE:
                    raise
            except PrimePodsError as exc:
                if not getattr(exc, "transient", False):
                    raise
                if not trouble:
                    log.warning("waiting for the disk %s: %s", disk_id, exc)
                trouble = f" The last error was: {exc}"
            else:
                if disk.status == PodState.ACTIVE:
                    return disk
                shown, trouble, seen_at = str(disk), "", self._clock.time()
                state = disk.status
                if state is not None and (state.is_ending or state in {PodState.STOPPED, PodState.ERROR}):
                    raise _wait_error(
                        WaitError,
                        disk_id,
                        f"The disk will not become ready: {disk}.",
                        is_ending=state.is_ending,
                    )
            seconds = min(interval, ends_at - self._clock.time())
            if seconds <= 0:
                raise _wait_error(
                    WaitTimeoutError,
                    disk_id,
                    f"The disk is not ready after {timeout:g} s: {shown or disk_id}.{trouble}",
                )
            await self._executor.transport.pause(seconds)

    async def _get(self, disk_id: str, *, ends_at: float | None = None) -> Disk:
        if ends_at is not None:
            ends_at = min(ends_at, self._clock.time() + self._executor.settings.deadline)
        decode = partial(decode_item, model=Disk, item_id=disk_id)
        return await self._executor.call(item_request("GET", disk_id, DISKS), decode, ends_at=ends_at)

    def _listed(self) -> AsyncPager[Disk]:
        """Iterate over all disks. If only id and name of a row are readable, its disk has no other fields."""
        return list_pager(self._executor, f"{DISKS}/", Disk, MAX_LIMIT, name="disks.list", make_bare=Disk)

    async def _check_unused(self, disk: Disk) -> None:
        """Check that no cluster uses a disk, and no pod that may still exist.

        The API's response for a disk in use is not documented, and lost data cannot be restored.

        Raises:
            ConflictError: The disk is, or may be, in use.
        """
        users = [*disk.clusters]
        if disk.pods:
            pods = dict.fromkeys(disk.pods)
            rows = (await self._statuses.read([*pods])).rows
            # A status response may lack a pod that exists (imagined), so the history must show its end.
            ended_ids = set[str]() if rows.keys() >= pods.keys() else await self._deleter.read_ended_ids()
            for pod_id in pods:
                status = rows[pod_id].status if pod_id in rows else None
                has_ended = pod_id not in rows and pod_id in ended_ids
                if not has_ended and not (status and status.is_ending):
                    users.append(pod_id)
        if users:
            path = item_path(disk.id, DISKS)
            message = f"the disk is attached to {', '.join(users)}"
            raise ConflictError(
                f"DELETE {path} was not sent: {message}. Delete the pod or cluster first.",
                status_code=409,
                method="DELETE",
                path=path,
                message=message,
            )


def _id_of(disk: str | Disk) -> str:
    disk_id = disk.id if isinstance(disk, Disk) else disk
    item_path(disk_id, DISKS)  # raises for an invalid id
    return disk_id


def _wait_error(kind: type[WaitError], disk_id: str, message: str, *, is_ending: bool = False) -> WaitError:
    remedy = "" if is_ending else f"It may be billed until you delete it: `disks.delete({disk_id!r})`."
    return kind(message, statuses={}, pending=(disk_id,), remedy=remedy)


def _decode_users(data: Any, disk_id: str) -> Disk:
    """Decode only a disk's id, pods and clusters: no other field must prevent its deletion."""
    row = as_object(data)
    return decode_item({key: row[key] for key in ("id", "pods", "clusters") if key in row}, Disk, disk_id)


async def describe_disks(executor: RequestExecutor, disk_ids: Sequence[str]) -> str:
    """Return a sentence about the disks that outlive a lease, with the known prices."""

    async def describe(disk_id: str) -> str:
        try:
            disk = await AsyncDisks(executor).get(disk_id)
            return str(attrs.evolve(disk, pods=()))  # the lease deletes its pod
        except (PrimePodsError, ValueError):
            return disk_id

    described = await executor.map(describe, disk_ids)
    return f"Disks that stay, and are billed until you delete them: {'; '.join(described)}"
