"""Orders of pods and disks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, TypedDict, Unpack

import attrs
from attrs.validators import optional

from ._utils.arguments import check_amount, check_count, check_text, check_texts
from ._utils.plain import ToDict
from ._utils.text import quote
from ._utils.unique_names import unique_name
from .models.offers import DiskOffer, Offer, SpecRange

CUSTOM_IMAGE: Final = "custom_template"
_DEFAULT_IMAGE: Final = "ubuntu_22_cuda_12"
"""Default image of the API."""
_PRICE_DECIMALS: Final = 4
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""An unpaired surrogate, which UTF-8 cannot encode."""
PRICE_TOLERANCE: Final = 1e-6
"""Relative tolerance of a price limit, for rounding errors."""


class PodChanges(TypedDict, total=False):
    """Keyword arguments of :meth:`PodSpec.from_offer`: fields of :class:`PodSpec`."""

    gpu_count: int
    name: str | None
    image: str | None
    disk_size: int | None
    vcpus: int | None
    memory: int | None
    max_price: float | None
    custom_template_id: str | None
    data_center_id: str | None
    country: str | None
    security: str | None
    env_vars: Mapping[str, str]
    jupyter_password: str | None
    ssh_key_id: str | None
    auto_restart: bool | None
    disks: Iterable[str]
    team_id: str | None
    prepaid_for_hr: float | None
    team_member_ids: Iterable[str]
    shared_with_team: bool


def _name_of(spec: Any, attribute: attrs.Attribute[Any]) -> str:
    return f"{type(spec).__name__}.{attribute.name}"


def _validate_text(spec: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    # A message must not show a field that the `repr` hides.
    check_text(_name_of(spec, attribute), value, is_secret=attribute.repr is False)


def _validate_count(spec: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_count(_name_of(spec, attribute), value, minimum=1)


def _validate_price(spec: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    # This also refuses 0, which the API accepts, perhaps as "no limit" (not documented).
    check_amount(_name_of(spec, attribute), value, "price")


def _validate_hours(spec: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_amount(_name_of(spec, attribute), value, "number of hours")


def _validate_flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        allowed = "True or False" if attribute.default is False else "True, False or None"
        raise TypeError(f"PodSpec.{attribute.name} must be {allowed}, got {quote(value)}")


def _copy_variables(variables: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(variables, Mapping):
        raise TypeError(f"PodSpec.env_vars must be a mapping of strings, got {type(variables).__name__}")
    return dict(variables)


def _validate_variables(_: Any, attribute: attrs.Attribute[Any], variables: Mapping[str, str]) -> None:
    name = f"PodSpec.{attribute.name}"
    for key, value in variables.items():
        if not all(isinstance(text, str) for text in (key, value)):
            found = f"{quote(key)} with a {type(value).__name__}"
            raise TypeError(f"{name} must have strings for keys and values, got {found}")
        if not key or "=" in key or "\0" in key + value or _SURROGATE.search(key + value):
            raise ValueError(
                f"{name} at {quote(key)}: a name must not be empty or contain '=', and neither a name nor a "
                "value may contain NUL or an unpaired surrogate"
            )


def _show_variables(variables: Mapping[str, str]) -> str:
    return repr(dict.fromkeys(variables, "[redacted]"))


def _disk_ids(ids: Iterable[str]) -> tuple[str, ...]:
    return check_texts("PodSpec.disks", ids)


def _member_ids(ids: Iterable[str]) -> tuple[str, ...]:
    return check_texts("PodSpec.team_member_ids", ids)


_OPTIONAL_TEXT: Final = optional(_validate_text)
_OPTIONAL_COUNT: Final = optional(_validate_count)


@attrs.frozen(kw_only=True)
class PodSpec(ToDict):
    """Order of a pod for ``pods.create``. A field that is ``None`` is left to the API, unless noted.

    Bad values raise ``ValueError`` or ``TypeError`` when the spec is created. The ``repr`` hides secrets:
    ``jupyter_password`` and the values of ``env_vars``. Source: the API's schema, `Create pod
    <https://docs.primeintellect.ai/api-reference/pods/create-pod>`_.

    Attributes:
        cloud_id: The offer's ``cloud_id``.
        gpu_type: GPU type, such as ``H100_80GB``.
        socket: GPU socket, such as ``SXM5``.
        gpu_count: Total number of GPUs.
        provider: Provider, such as ``hyperstack``.
        name: By default a new name for each order: ``primepods-`` and random characters. ``pods.lease`` adds
            a random suffix to your name, and may shorten it so that the result has up to 63 characters.
            Without ``max_hours``, ``pods.create`` sends your name unchanged. If the response is then lost, a
            pod of this name is accepted as yours only if it is the only new one.
        image: By default ``custom_template`` if ``custom_template_id`` is set, else the API's default,
            ``ubuntu_22_cuda_12``.
        disk_size: GB of disk.
        vcpus: Virtual CPUs.
        memory: GB of RAM.
        max_price: Max price per hour, above which the API refuses the order; ``None`` for no limit, which
            some offers do not allow.
        custom_template_id: The template of the image ``custom_template``.
        data_center_id: The offer's ``data_center``.
        country: The offer's ``country``.
        security: The offer's ``security``.
        env_vars: Environment variables of the pod.
        jupyter_password: The password of the pod's Jupyter.
        ssh_key_id: The key of ``client.ssh_keys`` that can log in; by default the primary one.
        auto_restart: Whether the pod restarts automatically.
        disks: Ids of disks to attach.
        team_id: The team that pays; by default the client's team.
        prepaid_for_hr: Hours to pay in advance, for reserved machines.
        team_member_ids: Ids of the team members who share the pod.
        shared_with_team: Whether the whole team shares the pod.
    """

    cloud_id: str = attrs.field(validator=_validate_text)
    gpu_type: str = attrs.field(validator=_validate_text)
    socket: str = attrs.field(validator=_validate_text)
    gpu_count: int = attrs.field(validator=_validate_count)
    provider: str = attrs.field(validator=_validate_text)
    name: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    image: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    disk_size: int | None = attrs.field(default=None, validator=_OPTIONAL_COUNT)
    vcpus: int | None = attrs.field(default=None, validator=_OPTIONAL_COUNT)
    memory: int | None = attrs.field(default=None, validator=_OPTIONAL_COUNT)
    max_price: float | None = attrs.field(default=None, validator=optional(_validate_price))
    custom_template_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    data_center_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    country: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    security: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    env_vars: Mapping[str, str] = attrs.field(
        factory=dict[str, str],
        converter=_copy_variables,
        validator=_validate_variables,
        repr=_show_variables,
        hash=False,
    )
    jupyter_password: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT, repr=False)
    ssh_key_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    auto_restart: bool | None = attrs.field(default=None, validator=optional(_validate_flag))
    disks: tuple[str, ...] = attrs.field(default=(), converter=_disk_ids)
    team_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    prepaid_for_hr: float | None = attrs.field(default=None, validator=optional(_validate_hours))
    team_member_ids: tuple[str, ...] = attrs.field(default=(), converter=_member_ids)
    shared_with_team: bool = attrs.field(default=False, validator=_validate_flag)

    @classmethod
    def from_offer(cls, offer: Offer, **changes: Unpack[PodChanges]) -> Self:
        """Return the order for an offer, with the values of its row and its default amounts.

        ``max_price`` defaults to the price of the offer with the ordered amounts
        (:meth:`~primepods.Offer.price_for`), so that the order is refused if the price has risen. The image
        is the API's default, or the offer's first image if the offer lists images without the default.

        Args:
            offer: A row of ``client.availability``.
            changes: Fields of the spec to set, or to replace values of the offer.

        Raises:
            ValueError: A value is invalid, the offer does not allow an amount, or the offer has no price and
                ``max_price`` is not set.
            TypeError: An argument has the wrong type, or is not a field of the spec.
        """
        if not isinstance(offer, Offer):
            raise TypeError(f"offer must be an Offer, got {quote(offer)}")
        fields: dict[str, Any] = {
            "cloud_id": offer.cloud_id,
            "gpu_type": offer.gpu_type,
            "socket": offer.socket,
            "gpu_count": offer.gpu_count,
            "provider": offer.provider,
            "data_center_id": offer.data_center or None,
            "country": offer.country or None,
            "security": offer.security or None,
            "image": None if _DEFAULT_IMAGE in offer.images else next(iter(offer.images), None),
            "disk_size": _default_amount(offer.disk),
            "vcpus": _default_amount(offer.vcpu),
            "memory": _default_amount(offer.memory),
        }
        if changes.get("custom_template_id") is not None:
            fields["image"] = None
        fields.update(changes)
        spec = cls(**fields)
        spec._check_amounts(offer)
        price = spec._price_of(offer)
        if price is None and spec.max_price is None:
            raise ValueError(
                f"The offer {offer.cloud_id!r} has no usable price: set max_price, the limit per hour"
            )
        return spec if "max_price" in changes else attrs.evolve(spec, max_price=price)

    @classmethod
    def from_offers(cls, offers: Iterable[Offer], **changes: Unpack[PodChanges]) -> list[Self]:
        """Return specs for several offers, made by :meth:`from_offer`, in the order of the offers.

        ``pods.lease`` tries them in this order. Offers for which :meth:`from_offer` raises ``ValueError`` are
        left out.

        Args:
            offers: Rows of ``client.availability``, such as ``availability.find(…)`` returns.
            changes: Fields of the specs to set, or to replace values of the offers.

        Raises:
            ValueError: There are offers, but all were left out; this is the error of the first.
            TypeError: An argument has the wrong type, or is not a field of the spec.
        """
        if isinstance(offers, Offer):
            raise TypeError("offers must be an iterable of offers: use PodSpec.from_offer(offer) for one")
        specs: list[Self] = []
        refusals: list[ValueError] = []
        for offer in offers:
            try:
                specs.append(cls.from_offer(offer, **changes))
            except ValueError as exc:
                refusals.append(exc)
        if refusals and not specs:
            raise refusals[0]
        return specs

    def named(self) -> Self:
        """Return this spec with a name: its own, or a new unique one. Order the result only once.

        Use this if a program needs the name before it orders the pod.
        """
        if self.name is not None:
            return self
        return attrs.evolve(self, name=unique_name("primepods"))

    def is_exceeded_by(self, price_hr: float) -> bool:
        """Return whether a price per hour is above ``max_price`` (if set), by more than a rounding error."""
        return self.max_price is not None and price_hr > self.max_price * (1 + PRICE_TOLERANCE)

    def _check_amounts(self, offer: Offer) -> None:
        if self.gpu_count != offer.gpu_count:
            raise ValueError(
                f"gpu_count must be {offer.gpu_count}, as in the offer {offer.cloud_id!r}, got "
                f"{self.gpu_count}. Other numbers of GPUs are separate offers."
            )
        amounts = {"disk_size": offer.disk, "vcpus": offer.vcpu, "memory": offer.memory}
        for name, allowed in amounts.items():
            count = getattr(self, name)
            if count is not None and not allowed.allows(count):
                raise ValueError(f"{name} must be {allowed} for the offer {offer.cloud_id!r}, got {count}")

    def _price_of(self, offer: Offer) -> float | None:
        price = offer.price_for(disk_size=self.disk_size, vcpus=self.vcpus, memory=self.memory)
        # Round up, so that the limit is not below the price; ignore rounding errors of floats.
        scale = 10.0**_PRICE_DECIMALS
        scaled = round((price or 0.0) * scale, 3)
        return math.ceil(scaled) / scale if 0 < scaled < math.inf else None


@attrs.frozen(kw_only=True)
class DiskSpec(ToDict):
    """Order of a disk for ``disks.create``. A field that is ``None`` is left to the API, unless noted.

    Bad values raise ``ValueError`` or ``TypeError`` when the spec is created.

    Attributes:
        size: Size in GB.
        provider: Provider, such as ``hyperstack``; only pods of this provider can use the disk.
        name: By default a new name for each order: ``disk-`` and random characters. If the response to the
            order is lost, a disk with a name that you chose is accepted as yours only if it is the only new
            one.
        cloud_id: The offer's ``cloud_id``.
        data_center_id: The offer's ``data_center``; only pods in this data center can use the disk.
        country: The offer's ``country``.
        team_id: The team that pays; by default the client's team.
    """

    size: int = attrs.field(validator=_validate_count)
    provider: str = attrs.field(validator=_validate_text)
    name: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    cloud_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    data_center_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    country: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    team_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)

    @classmethod
    def from_offer(
        cls, offer: DiskOffer, *, size: int, name: str | None = None, team_id: str | None = None
    ) -> Self:
        """Return the order for an offer of ``availability.disks``, with the values of its row.

        Args:
            offer: The offer.
            size: Size in GB.
            name: See :class:`DiskSpec`.
            team_id: See :class:`DiskSpec`.

        Raises:
            ValueError: A value is invalid, or the offer does not allow the size.
            TypeError: An argument has the wrong type.
        """
        if not isinstance(offer, DiskOffer):
            raise TypeError(f"offer must be a DiskOffer, got {quote(offer)}")
        spec = cls(
            size=size,
            provider=offer.provider,
            name=name,
            cloud_id=offer.cloud_id or None,
            data_center_id=offer.data_center or None,
            country=offer.country or None,
            team_id=team_id,
        )
        if not offer.spec.allows(size):
            raise ValueError(f"size must be {offer.spec} for the offer {offer.cloud_id!r}, got {size}")
        return spec

    def named(self) -> Self:
        """Return this spec with a name: its own, or a new unique one. Order the result only once."""
        return self if self.name is not None else attrs.evolve(self, name=unique_name("disk"))


def _default_amount(allowed: SpecRange) -> int | None:
    """Return the default amount, or ``None`` if it cannot be ordered."""
    default = allowed.default_count
    return default if default and allowed.allows(default) else None
