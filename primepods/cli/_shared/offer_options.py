"""Options of the commands that find and order offers, ids of offers, and lookups before an order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import attrs

import primepods
from primepods._utils.text import short_duration

from .completion import complete_images, complete_offer_gpus, complete_providers, complete_ssh_keys
from .durations import duration_option
from .handles import are_whole_ids, find_row
from .options import filter_option, flag, option, pod_option
from .table import print_info

_ID_LENGTH = 8


def _parse_regions(regions: list[str] | None) -> list[str]:
    return [region.strip().lower().replace(" ", "_").replace("-", "_") for region in regions or ()]


@attrs.frozen(kw_only=True)
class OfferFilters:
    """Filter options for offers; they have the names of the parameters of ``availability.find``."""

    gpu_type: Annotated[
        str | None,
        option(
            "Only this GPU, such as H100, 'A100 80GB' or 'H*'.",
            "GPU",
            "--gpu-type",
            "--gpu",
            autocompletion=complete_offer_gpus,
        ),
    ] = None
    gpu_count: Annotated[
        int | None,
        option("Only offers with this total number of GPUs.", "NUMBER", min=1),
    ] = None
    max_price: Annotated[float | None, option("Only up to this price per hour.", "PRICE", min=0)] = None
    regions: Annotated[
        list[str] | None,
        filter_option(
            "Only in this region, such as united_states; may be repeated.",
            "REGION",
            "--region",
            "--regions",
            callback=_parse_regions,
        ),
    ] = None
    socket: Annotated[str | None, filter_option("Only this socket, such as SXM5.", "SOCKET")] = None
    security: Annotated[str | None, filter_option("secure_cloud or community_cloud.", "CLOUD")] = None
    provider: Annotated[
        str | None,
        filter_option("Only this provider.", "PROVIDER", autocompletion=complete_providers),
    ] = None
    exclude_providers: Annotated[
        list[str] | None,
        filter_option(
            "Not from this provider; may be repeated.",
            "PROVIDER",
            "--exclude-provider",
            autocompletion=complete_providers,
        ),
    ] = None
    spot: Annotated[
        bool, flag("Include spot machines, which the provider may terminate.", "--spot", panel="Filters")
    ] = False
    wait: Annotated[
        float | None,
        duration_option("Poll until there is an offer, for at most this time, such as 2h.", panel="Filters"),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, as arguments of ``availability.find``."""
        return without_unset(attrs.asdict(self))


@attrs.frozen(kw_only=True)
class OrderOptions:
    image: Annotated[
        str | None, pod_option("Image, such as ubuntu_22_cuda_12.", "IMAGE", autocompletion=complete_images)
    ] = None
    custom_template_id: Annotated[str | None, pod_option("Id of your own template.", "ID")] = None
    disk_size: Annotated[int | None, pod_option("GB of disk.", "GB", min=1)] = None
    ssh_key: Annotated[
        str | None,
        pod_option(
            "Id or name of the SSH key that may log in; by default your primary one.",
            "KEY",
            autocompletion=complete_ssh_keys,
        ),
    ] = None
    disks: Annotated[
        list[str] | None,
        pod_option(
            "Disk to attach, by its id or name; may be repeated. Offers that cannot attach it are left out.",
            "DISK",
            "--disk",
            "--disks",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, except ``ssh_key``, as fields of ``PodSpec``."""
        return without_unset(attrs.asdict(self, filter=lambda field, _: field.name != "ssh_key"))


def without_unset(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values except ``None``, ``False`` and empty lists."""
    # Compare with `is not`: 0 equals False, but users may give it.
    return {
        name: value
        for name, value in values.items()
        if value is not None and value is not False and value != []
    }


def find_key(wanted: str, keys: Iterable[primepods.SSHKey]) -> str:
    """Return the id of an SSH key, given its id, a prefix of the id, or its name."""
    return find_row(wanted, keys, "SSH key", "primepods ssh-keys").id


def announce_wait(seconds: float | None) -> None:
    if seconds:
        print_info(f"Looking for an offer that fits, for up to {short_duration(seconds)} or until Ctrl-C.")


def machine(offer: primepods.Offer) -> str:
    """Return an offer's GPUs, with what connects them: the nodes of a cluster are connected by Infiniband."""
    return ", ".join(filter(None, (f"{offer.gpu_count} x {offer.gpu_type}", offer.interconnect_type)))


def offer_id(offer: primepods.Offer) -> str:
    """Return a short id for an offer; it does not change with the price or the stock."""
    machine = (offer.cloud_id, offer.provider, offer.gpu_type, offer.gpu_count, offer.socket)
    place = (offer.region, offer.data_center, offer.country, offer.security, offer.is_spot)
    amounts = [part.default_count for part in (offer.disk, offer.shared_disk, offer.vcpu, offer.memory)]
    text = json.dumps([*machine, *place, *amounts])
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def find_disks(client: primepods.Client, handles: Iterable[str]) -> list[primepods.Disk]:
    """Return the disks with these ids, id prefixes or names; see :func:`choose_disks`."""
    return choose_disks(handles, *client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public list lacks rows that cannot be read


def choose_disks(
    handles: Iterable[str], disks: Sequence[primepods.Disk], error: primepods.PrimePodsError | None
) -> list[primepods.Disk]:
    """Return the disks with these ids, id prefixes or names.

    Args:
        handles: The ids, id prefixes or names.
        disks: The listed disks whose id can be read.
        error: The error that left the list incomplete, if any. With it, only ids are resolved.

    Raises:
        CommandError: A handle matches no disk, or several.
        PrimePodsError: ``error``, if a disk that could not be read might match.
    """
    found: dict[str, primepods.Disk] = {}
    for handle in handles:
        is_listed = any(disk.id == handle for disk in disks)
        if error is not None and not is_listed and not are_whole_ids([handle]):
            raise error
        unlisted = [primepods.Disk(id=handle)] if error is not None and not is_listed else []
        disk = find_row(handle, [*disks, *unlisted], "disk", "primepods disks")
        found[disk.id] = disk
    return list(found.values())
