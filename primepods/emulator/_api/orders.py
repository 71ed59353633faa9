"""Create requests: what the schema says about the body, and what the offer says about the order."""

from collections.abc import Mapping
from typing import cast

from .._state.market import Amount, Offer
from .._state.pods import PodOverrides
from .checks import (
    boolean,
    checked,
    fields,
    listed,
    nullable,
    positive,
    positive_number,
    text,
    word,
)
from .checks import number as any_number
from .http import Refused, detail
from .vocabulary import GPU_TYPES, IMAGES, PROVIDERS, SECURITY, SOCKETS

CUSTOM = "custom_template"

_POD = fields(
    {
        "cloudId": text,
        "gpuType": word(*GPU_TYPES),
        "socket": word(*SOCKETS),
        "gpuCount": positive,
    },
    {
        # The schema has no null here, but clients send it when they have no name.
        "name": nullable(text),
        "diskSize": nullable(positive),
        "vcpus": nullable(positive),
        "memory": nullable(positive),
        "maxPrice": nullable(any_number),
        "image": nullable(word(*IMAGES)),
        "customTemplateId": nullable(text),
        "dataCenterId": nullable(text),
        "country": nullable(text),
        "security": nullable(word(*SECURITY)),
        "envVars": nullable(listed(fields({"key": text, "value": text}, {}))),
        "jupyterPassword": nullable(text),
        "sshKeyId": nullable(text),
        "autoRestart": nullable(boolean),
        "prepaidForHr": nullable(positive_number),
    },
    closed=True,
)

_BODY = fields(
    {"pod": _POD, "provider": fields({"type": word(*PROVIDERS)}, {})},
    {
        "disks": nullable(listed(text)),
        "team": nullable(fields({"teamId": text}, {})),
        "team_member_ids": nullable(listed(text)),
        "shared_with_team": boolean,
    },
)


class Order:
    """A create request whose body is as the schema wants it. Raises `Refused` with a 422 if it is not."""

    def __init__(self, body: object) -> None:
        checked(body, _BODY)
        whole = cast("Mapping[str, object]", body)
        self._pod = cast("Mapping[str, object]", whole["pod"])
        self.provider: str = cast("Mapping[str, str]", whole["provider"])["type"]
        self.disk_ids: list[str] = list(cast("list[str] | None", whole.get("disks")) or [])
        team = cast("Mapping[str, str] | None", whole.get("team"))
        self.team_id: str | None = None if team is None else team["teamId"]

    def text(self, key: str) -> str | None:
        """Give a text field of the pod, or `None`."""
        return cast("str | None", self._pod.get(key))

    def integer(self, key: str) -> int | None:
        """Give a whole number of the pod, or `None`."""
        value = cast("float | None", self._pod.get(key))
        return None if value is None else int(value)

    def check(self, offer: Offer | None) -> Offer:
        """Hold the order against the offer that it names; raises `Refused` with a 400 in prose."""
        reason = "No offer with this cloudId" if offer is None else next(iter(self._objections(offer)), None)
        if offer is None or reason is not None:
            raise Refused(detail(400, str(reason)))
        return offer

    def _objections(self, offer: Offer) -> list[str]:
        ordered = (self.provider, self.text("gpuType"), self.text("socket"), self.integer("gpuCount"))
        offered = (offer.provider.name, offer.gpu.name, offer.gpu.socket, offer.count)
        names = ("provider", "gpuType", "socket", "gpuCount")
        wrong = [
            f"Offer {offer.cloud_id} has {name} {theirs}, not {mine}"
            for name, mine, theirs in zip(names, ordered, offered, strict=True)
            if mine != theirs
        ]
        return wrong + self._location_objections(offer) + self._size_objections(offer) + self._other(offer)

    def _location_objections(self, offer: Offer) -> list[str]:
        provider = offer.provider
        places = {
            "dataCenterId": provider.data_center,
            "country": provider.country,
            "security": provider.security,
        }
        return [
            f"Offer {offer.cloud_id} has {key} {place}, not {self.text(key)}"
            for key, place in places.items()
            if self.text(key) not in {None, place}
        ]

    def _size_objections(self, offer: Offer) -> list[str]:
        sizes: dict[str, Amount] = {"diskSize": offer.disk, "vcpus": offer.vcpus, "memory": offer.memory}
        wanted = {key: self.integer(key) for key in sizes}
        return [
            f"{key} must be from {amount.least} to {amount.most} in steps of {amount.step or 1}"
            for key, amount in sizes.items()
            if (size := wanted[key]) is not None and not amount.allows(size)
        ]

    def _other(self, offer: Offer) -> list[str]:
        wrong: list[str] = []
        if offer.variable and "maxPrice" not in self._pod:
            wrong.append("Missing field: max_price not specified")
        limit = cast("float | None", self._pod.get("maxPrice"))
        # 0 is what some clients send for "no limit".
        if limit and limit < offer.price:
            wrong.append(f"The price is {offer.price} per hour, above maxPrice {limit}")
        if self.image == CUSTOM and self.text("customTemplateId") is None:
            wrong.append("customTemplateId is required for the image custom_template")
        if self.image not in offer.images:
            wrong.append(f"Image {self.image} is not available for this offer")
        return wrong

    @property
    def image(self) -> str:
        """The image, by default the schema's."""
        return self.text("image") or IMAGES[0]

    def wishes(self, offer: Offer) -> PodOverrides:
        """Say what the pod will be, as far as order and offer decide."""
        extra: dict[str, object] = {
            "customTemplateId": self.text("customTemplateId"),
            "autoRestart": self._pod.get("autoRestart") or False,
        }
        if self.text("jupyterPassword") is not None:
            extra["jupyterPassword"] = self.text("jupyterPassword")
        return PodOverrides(
            provider=offer.provider.name,
            gpu_name=offer.gpu.name,
            gpu_count=offer.count,
            socket=offer.gpu.socket,
            price_hr=offer.price,
            image=self.image,
            nodes=offer.nodes,
            team_id=self.team_id,
            spot=offer.spot,
            pod_fields=extra,
        )
