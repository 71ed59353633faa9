"""Pods, their statuses, and what was rented before."""

from __future__ import annotations

from datetime import datetime

import attrs

from .._utils.gpu_names import gpu_matches
from .._utils.plain import ToDict
from ._base import Model, in_order
from ._machine import Machine, shown_id


@attrs.frozen(kw_only=True, field_transformer=in_order)
class Resources(Model):
    """What the machine has."""

    memory: int | None = None
    """RAM in GB."""
    disk: int | None = None
    """Disk in GB."""
    shared_disk: int | None = None
    """Shared disk in GB."""
    vcpus: int | None = None
    """Virtual CPUs."""


@attrs.frozen(kw_only=True, field_transformer=in_order)
class AttachedResource(Model):
    """A disk attached to a pod."""

    id: str
    """Its id, as text whatever the wire had."""
    resource_type: str | None = None
    """``DISK``, or a word added later."""
    status: str | None = None
    """What the disk is doing."""
    is_detachable: bool | None = None
    """Whether it can be detached from the pod."""
    mount_path: str | None = None
    """Where it is mounted in the pod."""
    resource_path: str | None = None
    """Its path at the provider."""
    size: int | str | None = None
    """In GB; text where the API sends a unit with it."""
    is_shared: bool | None = None
    """Whether other pods can use it, too."""


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class Pod(Machine):
    """A pod, as ``GET /api/v1/pods/`` and ``GET /api/v1/pods/{id}`` describe it."""

    _SUMMARY = ("id", "name", "status", "gpu_count", "gpu_name", "price_hr", "is_ready", "ssh")

    id: str
    """What every other call wants."""
    gpu_name: str
    """Such as ``H100_80GB``."""
    gpu_count: int
    """GPUs of all nodes of the pod together; its price is for all of them."""
    price_hr: float
    """Price per hour while it runs."""
    provider_type: str
    """Such as ``hyperstack``."""
    name: str | None = None
    """The name given to it; others may have the same."""
    user_id: str | None = None
    """The user who rented it."""
    team_id: str | None = None
    """The team that pays, if one does."""
    wallet_id: str | None = None
    """The wallet that pays."""
    cluster_id: str | None = None
    """The cluster that it belongs to, if any."""
    type: str | None = None
    """``HOSTED`` or ``EXTERNAL``."""
    socket: str | None = None
    """Such as ``SXM5`` or ``PCIe``."""
    created_at: datetime | None = None
    """When it was ordered."""
    updated_at: datetime | None = None
    """When the API last changed its record."""
    terminated_at: datetime | None = None
    """When it was terminated."""
    stopped_price_hr: float | None = None
    """Price per hour while it is stopped; ``None`` means ``price_hr``."""
    provisioning_price_hr: float | None = None
    """Price per hour while it is provisioned."""
    base_price_hr: float | None = None
    """The API's base price per hour."""
    base_currency: str | None = None
    """Currency of that price, such as ``USD``."""
    environment_type: str | None = None
    """The kind of image that it runs."""
    custom_template_id: str | None = None
    """The template that it was made from."""
    resources: Resources | None = None
    """Memory, disk and CPUs."""
    attached_resources: tuple[AttachedResource, ...] = ()
    """Disks attached to it."""
    is_spot: bool | None = None
    """Whether the provider may take it away."""
    auto_restart: bool | None = None
    """Whether it is started again by itself."""
    jupyter_password: str | None = attrs.field(default=None, repr=False)
    """Password of its Jupyter; in no ``repr``."""

    @property
    def pod_id(self) -> str:
        """The id, under the name that it has in a status."""
        return self.id

    def has_gpu(self, gpu_type: str) -> bool:
        """Tell whether its GPU is this one: ``"H100"``, ``"rtx 4090"``, ``"H100_80GB"``, or like ``"H*"``."""
        return gpu_matches(gpu_type, self.gpu_name)

    def __str__(self) -> str:
        """Return one line for people: id, name, condition, GPUs, price per hour, how to log in."""
        line = self._line(self.name, f"{self.gpu_count} x {self.gpu_name}", f"{self.price_hr:g} an hour")
        return f"{shown_id(self.id)}: {line}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class PodStatus(Machine):
    """A row of ``GET /api/v1/pods/status``."""

    _SUMMARY = (
        *("pod_id", "status", "installation_status", "installation_progress"),
        *("cost_per_hr", "is_ready", "failure", "ssh"),
    )

    pod_id: str
    """The pod's id."""
    provider_type: str | None = None
    """Such as ``hyperstack``."""
    cost_per_hr: float | None = None
    """Price per hour (the wire has ``costPerHr`` or ``priceHr``)."""

    def __str__(self) -> str:
        """Return one line for people: id, condition, price per hour, how to log in."""
        price = None if self.cost_per_hr is None else f"{self.cost_per_hr:g} an hour"
        return f"{shown_id(self.pod_id)}: {self._line(price)}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=in_order)
class HistoryRecord(Model):
    """Something that was rented: a row of ``GET /api/v1/pods/history``."""

    _SUMMARY = (
        *("id", "name", "type", "gpu_count", "gpu_name", "provider_type"),
        *("created_at", "terminated_at", "price_hr", "total_billed_price"),
    )

    id: str
    """Its id, which a pod had before."""
    type: str
    """``Instance``, ``Cluster``, ``Disk``, ``Sandbox``, or a kind added later."""
    gpu_name: str
    """Such as ``H100_80GB``."""
    gpu_count: int
    """GPUs in all."""
    price_hr: float
    """Price per hour while it ran."""
    total_billed_price: float
    """What was billed for it; it settles some time after the end."""
    provider_type: str
    """Such as ``hyperstack``."""
    created_at: datetime
    """When it was ordered."""
    name: str | None = None
    """The name given to it."""
    user_id: str | None = None
    """The user who rented it."""
    team_id: str | None = None
    """The team that paid, if one did."""
    provisioned_by: str | None = None
    """Name of the user who ordered it."""
    terminated_at: datetime | None = None
    """When it ended, or ``None`` if the API does not say."""
    socket: str | None = None
    """Such as ``SXM5``."""


@attrs.frozen(kw_only=True)
class PodChange(ToDict):
    """What became of a pod between two looks at it."""

    pod_id: str
    """The pod's id."""
    before: PodStatus | None
    """Its status in the change before this one; ``None`` in a pod's first."""
    after: PodStatus | None
    """Its status now; ``None`` when it is gone."""
