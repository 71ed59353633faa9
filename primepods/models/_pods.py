"""Pods, their statuses, and what was rented before."""

from __future__ import annotations

from datetime import datetime

import attrs

from .._utils.plain import ToDict
from ._base import Model, in_order
from ._machine import Machine, shown_id


@attrs.frozen(kw_only=True, field_transformer=in_order)
class Resources(Model):
    """What the machine has.

    Attributes:
        memory: RAM in GB.
        disk: Disk in GB.
        shared_disk: Shared disk in GB.
        vcpus: Virtual CPUs.
    """

    memory: int | None = None
    disk: int | None = None
    shared_disk: int | None = None
    vcpus: int | None = None


@attrs.frozen(kw_only=True, field_transformer=in_order)
class AttachedResource(Model):
    """A disk attached to a pod.

    Attributes:
        id: Its id, as text whatever the wire had.
        resource_type: ``DISK``.
        size: In GB; text where the API sends a unit with it.
    """

    id: str
    resource_type: str | None = None
    status: str | None = None
    is_detachable: bool | None = None
    mount_path: str | None = None
    resource_path: str | None = None
    size: int | str | None = None
    is_shared: bool | None = None


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class Pod(Machine):
    """A pod, as ``GET /api/v1/pods/`` and ``GET /api/v1/pods/{id}`` describe it.

    Attributes:
        id: What every other call wants.
        price_hr: Price per hour while it runs.
        stopped_price_hr: Price per hour while it is stopped; ``None`` means ``price_hr``.
        provisioning_price_hr: Price per hour while it is provisioned.
        gpu_name: Such as ``H100_80GB``.
        gpu_count: GPUs of all nodes of the pod together; its price is for all of them.
        socket: Such as ``SXM5`` or ``PCIe``.
    """

    _SUMMARY = ("id", "name", "status", "gpu_count", "gpu_name", "price_hr", "is_ready", "ssh")

    id: str
    gpu_name: str
    gpu_count: int
    price_hr: float
    provider_type: str
    name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    wallet_id: str | None = None
    cluster_id: str | None = None
    type: str | None = None
    socket: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    terminated_at: datetime | None = None
    stopped_price_hr: float | None = None
    provisioning_price_hr: float | None = None
    base_price_hr: float | None = None
    base_currency: str | None = None
    environment_type: str | None = None
    custom_template_id: str | None = None
    resources: Resources | None = None
    attached_resources: tuple[AttachedResource, ...] = ()
    is_spot: bool | None = None
    auto_restart: bool | None = None
    jupyter_password: str | None = attrs.field(default=None, repr=False)

    @property
    def pod_id(self) -> str:
        """The id, under the name that it has in a status."""
        return self.id

    def __str__(self) -> str:
        """Return one line for people: id, name, condition, GPUs, price per hour, how to log in."""
        line = self._line(self.name, f"{self.gpu_count} x {self.gpu_name}", f"{self.price_hr:g} an hour")
        return f"{shown_id(self.id)}: {line}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class PodStatus(Machine):
    """A row of ``GET /api/v1/pods/status``.

    Attributes:
        pod_id: The pod's id.
        cost_per_hr: Price per hour (the wire has ``costPerHr`` or ``priceHr``).
    """

    _SUMMARY = (
        *("pod_id", "status", "installation_status", "installation_progress"),
        *("cost_per_hr", "is_ready", "failure", "ssh"),
    )

    pod_id: str
    provider_type: str | None = None
    cost_per_hr: float | None = None

    def __str__(self) -> str:
        """Return one line for people: id, condition, price per hour, how to log in."""
        price = None if self.cost_per_hr is None else f"{self.cost_per_hr:g} an hour"
        return f"{shown_id(self.pod_id)}: {self._line(price)}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class HistoryRecord(Model):
    """Something that was rented: a row of ``GET /api/v1/pods/history``.

    Attributes:
        type: ``Instance``, ``Cluster``, ``Disk``, ``Sandbox``, or a kind added later.
        total_billed_price: What was billed for it; it settles some time after the end.
        terminated_at: When it ended, or ``None`` if the API does not say.
    """

    _SUMMARY = (
        *("id", "name", "type", "gpu_count", "gpu_name", "provider_type"),
        *("created_at", "terminated_at", "price_hr", "total_billed_price"),
    )

    id: str
    type: str
    gpu_name: str
    gpu_count: int
    price_hr: float
    total_billed_price: float
    provider_type: str
    created_at: datetime
    name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    provisioned_by: str | None = None
    terminated_at: datetime | None = None
    socket: str | None = None


@attrs.frozen(kw_only=True)
class PodChange(ToDict):
    """What became of a pod between two looks at it.

    Attributes:
        pod_id: The pod's id.
        before: Its status in the change before this one; ``None`` in a pod's first.
        after: Its status now; ``None`` when it is gone.
    """

    pod_id: str
    before: PodStatus | None
    after: PodStatus | None
