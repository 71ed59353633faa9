"""Pods, their statuses, their changes, and the rental history."""

from __future__ import annotations

from datetime import datetime

import attrs

from .._utils.gpu_names import gpu_matches
from .._utils.money import money
from .._utils.plain import ToDict
from ._base import Model, id_first_extra_last
from ._readiness import Machine, shown_id
from ._states import PodState


@attrs.frozen(kw_only=True, field_transformer=id_first_extra_last)
class Resources(Model):
    """Memory, disk and CPUs of a machine."""

    memory: int | None = None
    """RAM in GB."""
    disk: int | None = None
    """Disk in GB."""
    shared_disk: int | None = None
    """Shared disk in GB."""
    vcpus: int | None = None
    """Virtual CPUs."""


@attrs.frozen(kw_only=True, field_transformer=id_first_extra_last)
class AttachedResource(Model):
    """A disk attached to a pod."""

    id: str
    """Id of the disk, always as text."""
    resource_type: str | None = None
    """``DISK``, or a value that the API adds later."""
    status: str | None = None
    """The disk's state."""
    is_detachable: bool | None = None
    """True if it can be detached from the pod."""
    mount_path: str | None = None
    """Mount point in the pod."""
    resource_path: str | None = None
    """Path at the provider."""
    size: int | str | None = None
    """Size in GB; text if the API sends a unit with it."""
    is_shared: bool | None = None
    """True if other pods can also use it."""


@attrs.frozen(kw_only=True, repr=False, field_transformer=id_first_extra_last)
class Pod(Machine):
    """A pod: the response to ``GET /api/v1/pods/{id}``, or a row of ``GET /api/v1/pods/``."""

    _SUMMARY_FIELDS = ("id", "name", "status", "gpu_count", "gpu_name", "price_hr", "is_ready", "ssh")

    id: str
    """Id of the pod."""
    gpu_name: str
    """GPU type, such as ``H100_80GB``."""
    gpu_count: int
    """Number of GPUs of all nodes together; the price is for all of them."""
    price_hr: float
    """Price per hour while it runs."""
    provider_type: str
    """Provider, such as ``hyperstack``."""
    name: str | None = None
    """Name of the pod; other pods may have the same name."""
    user_id: str | None = None
    """The user who rented it."""
    team_id: str | None = None
    """The team that pays, if any."""
    wallet_id: str | None = None
    """The wallet that pays."""
    cluster_id: str | None = None
    """The cluster of the pod, if any."""
    type: str | None = None
    """``HOSTED`` or ``EXTERNAL``."""
    socket: str | None = None
    """GPU socket, such as ``SXM5`` or ``PCIe``."""
    created_at: datetime | None = None
    """Time of the order."""
    updated_at: datetime | None = None
    """Time of the last change of the API's record."""
    terminated_at: datetime | None = None
    """Time of its termination."""
    stopped_price_hr: float | None = None
    """Price per hour while it is stopped; ``None`` means ``price_hr``."""
    provisioning_price_hr: float | None = None
    """Price per hour during provisioning."""
    base_price_hr: float | None = None
    """The API's base price per hour."""
    base_currency: str | None = None
    """Currency of the base price, such as ``USD``."""
    environment_type: str | None = None
    """Type of its image."""
    custom_template_id: str | None = None
    """Template of the pod."""
    resources: Resources | None = None
    """Memory, disk and CPUs."""
    attached_resources: tuple[AttachedResource, ...] = ()
    """Disks attached to it."""
    is_spot: bool | None = None
    """True if the provider may terminate it (a spot machine)."""
    auto_restart: bool | None = None
    """True if it restarts automatically."""
    jupyter_password: str | None = attrs.field(default=None, repr=False)
    """Password of its Jupyter; hidden from the ``repr``."""

    @property
    def pod_id(self) -> str:
        """The id; a :class:`PodStatus` has a field of the same name."""
        return self.id

    @property
    def current_price_hr(self) -> float:
        """Price per hour: 0 if TERMINATED, ``stopped_price_hr`` if STOPPED and known, else ``price_hr``."""
        if self.status == PodState.STOPPED and self.stopped_price_hr is not None:
            return self.stopped_price_hr
        return 0.0 if self.status == PodState.TERMINATED else self.price_hr

    def has_gpu(self, gpu_type: str) -> bool:
        """Return whether the pod's GPU matches a name or pattern, such as ``H100``, ``rtx 4090``, ``H*``."""
        return gpu_matches(gpu_type, self.gpu_name)

    def __str__(self) -> str:
        """Return one line for people: id, condition, name, GPUs, price per hour, SSH command."""
        line = self._line(self.name, f"{self.gpu_count} x {self.gpu_name}", f"{money(self.price_hr)} an hour")
        return f"{shown_id(self.id)}: {line}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=id_first_extra_last)
class PodStatus(Machine):
    """A row of ``GET /api/v1/pods/status``."""

    _SUMMARY_FIELDS = (
        "pod_id",
        "status",
        "installation_status",
        "installation_progress",
        "cost_per_hr",
        "is_ready",
        "failure",
        "ssh",
    )

    pod_id: str
    """The pod's id."""
    provider_type: str | None = None
    """Provider, such as ``hyperstack``."""
    cost_per_hr: float | None = None
    """Price per hour (``costPerHr`` or ``priceHr`` on the wire)."""

    def __str__(self) -> str:
        """Return one line for people: id, condition, price per hour, SSH command."""
        price = None if self.cost_per_hr is None else f"{money(self.cost_per_hr)} an hour"
        return f"{shown_id(self.pod_id)}: {self._line(price)}"


@attrs.frozen(kw_only=True, repr=False, field_transformer=id_first_extra_last)
class HistoryRecord(Model):
    """One past rental: a row of ``GET /api/v1/pods/history``."""

    _SUMMARY_FIELDS = (
        "id",
        "name",
        "type",
        "gpu_count",
        "gpu_name",
        "provider_type",
        "created_at",
        "terminated_at",
        "price_hr",
        "total_billed_price",
    )

    id: str
    """Id of the rental; for a pod, the pod's id."""
    type: str
    """``Instance``, ``Cluster``, ``Disk``, ``Sandbox``, or a value that the API adds later."""
    gpu_name: str
    """GPU type, such as ``H100_80GB``."""
    gpu_count: int
    """Total number of GPUs."""
    price_hr: float
    """Price per hour of the rental."""
    total_billed_price: float
    """Total billed amount; final only some time after the end."""
    provider_type: str
    """Provider, such as ``hyperstack``."""
    created_at: datetime
    """Time of the order."""
    name: str | None = None
    """Name of the rental."""
    user_id: str | None = None
    """The user who rented it."""
    team_id: str | None = None
    """The team that paid, if any."""
    provisioned_by: str | None = None
    """Name of the user who ordered it."""
    terminated_at: datetime | None = None
    """Time of its end, or ``None`` if the API does not report it."""
    socket: str | None = None
    """GPU socket, such as ``SXM5``."""


@attrs.frozen(kw_only=True)
class PodChange(ToDict):
    """Change of a pod's status."""

    pod_id: str
    """The pod's id."""
    before: PodStatus | None
    """Status before the change; ``None`` in the first change of a pod, or if the pod was gone."""
    after: PodStatus | None
    """Status after the change; ``None`` if the pod is gone, or never appeared."""

    def __str__(self) -> str:
        """Return one line for people: the new status, or that the pod is gone or was never found."""
        absence = "is gone or was never found" if self.before is None else "is gone"
        return f"{shown_id(self.pod_id)} {absence}" if self.after is None else str(self.after)
