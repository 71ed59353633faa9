"""Orders of pods, validated against the schema and the offer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._state.account import Account
from .._state.boot import ACTIVE
from .._state.disks import DiskRecord
from .._state.market import Market, Offer
from .._state.pods import PodOverrides, PodRecord
from .http import Request, refuse
from .shapes import team_of
from .validation import (
    boolean,
    json_body,
    list_of,
    nullable,
    number,
    object_of,
    one_of,
    positive_integer,
    positive_number,
    string,
)
from .vocabulary import GPU_TYPES, IMAGES, PROVIDERS, SECURITY, SOCKETS

CUSTOM_TEMPLATE = "custom_template"

_POD = object_of(
    {
        "cloudId": string,
        "gpuType": one_of(*GPU_TYPES),
        "socket": one_of(*SOCKETS),
        "gpuCount": positive_integer,
    },
    optional={
        # Null is accepted for all; the schema does not allow it for `name` and `image`.
        "name": nullable(string),
        "diskSize": nullable(positive_integer),
        "vcpus": nullable(positive_integer),
        "memory": nullable(positive_integer),
        "maxPrice": nullable(number),
        "image": nullable(one_of(*IMAGES)),
        "customTemplateId": nullable(string),
        "dataCenterId": nullable(string),
        "country": nullable(string),
        "security": nullable(one_of(*SECURITY)),
        "envVars": nullable(list_of(object_of({"key": string, "value": string}))),
        "jupyterPassword": nullable(string),
        "sshKeyId": nullable(string),
        "autoRestart": nullable(boolean),
        "prepaidForHr": nullable(positive_number),
    },
    closed=True,
)

_BODY = object_of(
    {"pod": _POD, "provider": object_of({"type": one_of(*PROVIDERS)})},
    optional={
        "disks": nullable(list_of(string)),
        "team": nullable(object_of({"teamId": string})),
        "team_member_ids": nullable(list_of(string)),
        "shared_with_team": boolean,
    },
)


class Order:
    """A request to create a pod. The constructor raises a 422 for an invalid body."""

    def __init__(self, request: Request) -> None:
        self._body = body = json_body(request, _BODY)
        self.pod: dict[str, Any] = body["pod"]
        self._provider: str = body["provider"]["type"]
        self._disk_ids: list[str] = body.get("disks") or []
        self._image: str = self.pod.get("image") or IMAGES[0]

    def find_offer(self, market: Market) -> Offer:
        """Return the ordered offer, or raise a 400 if it does not exist or does not match the order."""
        try:
            offer = market.offer(self.pod["cloudId"])
        except KeyError:
            raise refuse(400, "No offer with this cloudId") from None
        if (objection := next(self._objections(offer), None)) is not None:
            raise refuse(400, objection)
        return offer

    def find_disks(self, disks_at: tuple[float, list[DiskRecord]], offer: Offer) -> list[DiskRecord]:
        """Return the disks to attach, or raise a 400 if one cannot be attached."""
        now, disks = disks_at
        by_id = {disk.id: disk for disk in disks}
        for disk_id in self._disk_ids:
            disk = by_id.get(disk_id)
            if disk is None:
                raise refuse(400, f"Disk {disk_id} not found")
            if disk.status(now) != ACTIVE:
                raise refuse(400, f"Disk {disk_id} is {disk.status(now)}")
            if disk.data_center != offer.provider.data_center:
                place = offer.provider.data_center
                raise refuse(400, f"Disk {disk_id} is in {disk.data_center}, the offer in {place}")
        return [by_id[disk_id] for disk_id in self._disk_ids]

    def _objections(self, offer: Offer) -> Iterator[str]:
        """Yield the reasons to reject this order for the offer."""
        provider = offer.provider
        ordered = {**self.pod, "provider": self._provider}
        offered = {
            "provider": provider.name,
            "gpuType": offer.gpu.name,
            "socket": offer.gpu.socket,
            "gpuCount": offer.count,
            "dataCenterId": provider.data_center,
            "country": provider.country,
            "security": provider.security,
        }
        for key, value in offered.items():
            if ordered.get(key) not in {None, value}:
                yield f"Offer {offer.cloud_id} has {key} {value}, not {ordered[key]}"
        for key, amount in {"diskSize": offer.disk, "vcpus": offer.vcpus, "memory": offer.memory}.items():
            size = self.pod.get(key)
            if size is not None and not amount.allows(int(size)):
                steps = f"in steps of {amount.step or 1}"
                yield f"{key} must be from {amount.minimum} to {amount.maximum} {steps}"
        if offer.variable and "maxPrice" not in self.pod:
            yield "Missing field: max_price not specified"  # the API's text, as reported
        limit = self.pod.get("maxPrice")
        # A maxPrice of 0 is assumed to mean no limit, since SkyPilot sends it.
        if limit and limit < offer.price:
            yield f"The price is {offer.price} per hour, above maxPrice {limit}"
        if self._image == CUSTOM_TEMPLATE and self.pod.get("customTemplateId") is None:
            yield "customTemplateId is required for the image custom_template"
        if self._image not in offer.images:
            yield f"Image {self._image} is not available for this offer"

    def overrides(self, offer: Offer, account: Account) -> PodOverrides:
        """Return the pod's initial values, from the order and the offer, or raise a 403 for a wrong team."""
        extra: dict[str, object] = {
            "customTemplateId": self.pod.get("customTemplateId"),
            "autoRestart": self.pod.get("autoRestart") or False,
        }
        if self.pod.get("jupyterPassword") is not None:
            extra["jupyterPassword"] = self.pod["jupyterPassword"]
        return PodOverrides(
            provider=offer.provider.name,
            gpu_name=offer.gpu.name,
            gpu_count=offer.count,
            socket=offer.gpu.socket,
            price_hr=offer.price,
            image=self._image,
            nodes=offer.nodes,
            team_id=team_of(self._body, account),
            spot=offer.spot,
            pod_fields=extra,
        )

    def apply_to(self, record: PodRecord, offer: Offer, disks: list[DiskRecord]) -> None:
        """Set the values of the order that ``PodOverrides`` lacks."""
        record.offer = offer.cloud_id
        record.disk_ids = self._disk_ids
        record.disk_sizes = {disk.id: disk.size for disk in disks}
        record.team_member_ids = self._body.get("team_member_ids") or []
        record.shared_with_team = self._body.get("shared_with_team", False)
        record.prepaid_hours = float(self.pod.get("prepaidForHr") or 0.0)
        record.disk = int(self.pod.get("diskSize") or offer.disk.default)
        record.vcpus = int(self.pod.get("vcpus") or offer.vcpus.default)
        record.memory = int(self.pod.get("memory") or offer.memory.default)
